"""One run, from its checks to its adapter.

Doors: `run` (the whole of it) and `signals` (how a process is asked to stop). The rest are its stages: `preflight` opens
the inputs, `pinned_inputs` compares them with an earlier start's, `recorder` writes each step, `budget` counts the hours,
`publishing` sends checkpoints to the Hub.
"""
