"""Common parts without torch: errors, settings, validation, files and locks, background threads, logs, Hub names.

Doors: every module. `space_file` and `settings` are the configuration, `files` the only way to write and lock,
`background` the only periodic task, `hub_errors` and `hub_names` the only rules for the Hub's errors and names.
"""
