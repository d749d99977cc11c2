"""Measures what visitors and runs feel; never asserts a time. `python -m tests.benchmarks` prints the table."""
