"""Time, memory and money of a run, before it is paid for.

Doors: `estimate_run` (a configuration on a machine: steps, hours, dollars, memory, and their basis), `memory` (bytes of
a step, and the micro-batch that fits), `measured` (times from the folders of runs), `hardware` (cards and machines by
name, with published figures and prices), `shapes` (the sizes of bases, of known ones without a network), `step_time`
(seconds of a step by arithmetic), `rows` (train rows of a dataset that is not read yet).
"""
