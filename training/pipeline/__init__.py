"""One run, from its checks to its adapter.

Doors: `run` (all stages) and `signals` (requests to stop a process). `preflight` opens the inputs, `pinned_inputs`
compares them with those of an earlier start, `recorder` writes each step, `budget` counts the hours, `publishing` sends
checkpoints to the Hub.
"""
