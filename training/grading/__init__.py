"""Grader and rewards: compares a completion's answer with the gold answer, exactly and within limits. No torch.

On a table of your own: `grade_many([(gold, completion), …], problems=[…])` of `grader` gives a `Grade` for each pair,
with the verdict, what was read and why; or `python -m training grade FILE`. Other rooms call `grader` (`grade`,
`grade_answer`, `grade_many`, `gold_answer`, `gold_fault`, `check_gold`, `last_answer`), `rewards` (`load_reward` and
the functions), `cleaning.clean` and `math_pool.num_workers`. `python -m training.grading.attack` looks for answers
right for two golds.

An answer goes through `cleaning` (take the dress off), `parsing` (read it as one of the kinds of `answers`: numbers and
units by `quantities`, dates, times and ranges by `surface`) and `comparison`; what only mathematics decides goes to
`math_pool`, whose processes run `math_worker`.
"""
