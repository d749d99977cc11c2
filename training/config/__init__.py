"""The settings of a run, validated once where they enter: page, command line and Job all start from a `RunConfig`.

Doors: `run_config` (`load_config`, `RunConfig`, what may change at a resume), `data_config` (which dataset, how it is
split), `options` (the settings as command-line options).
"""
