"""The command line: a module for each command of `python -m training`, with `add_arguments` and `main`."""
