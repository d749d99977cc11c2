"""Records of runs looked at anew: what training changed, and what other settings would have changed.

Doors: `record` and `strength` (a run's checkpoints and answers, for the page), `pinned` (the owner's own questions),
`promoted` and `asking` (what broke with each promotion),
`reward_lab` (a run's rollouts weighed otherwise), `regrading` (graded otherwise, in the background), `fresh_sample`
(rollouts of a dataset without a run).
"""
