"""Grader and rewards: compares a completion's answer with the gold answer, exactly and within limits. No torch.

Other rooms call `grader` (`grade`, `grade_answer`, `grade_many`, `gold_answer`, `last_answer`), `rewards`
(`load_reward` and the functions) and `math_pool.num_workers`.

An answer goes through `cleaning` (take the dress off), `parsing` (read it as one of the kinds of `answers`, numbers and
units by `quantities`) and `comparison`; what only mathematics decides goes to `math_pool`, whose processes run
`math_worker`.
"""
