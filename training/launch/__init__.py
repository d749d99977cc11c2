"""Starting runs: in a process of this machine, or as a Job of the Hub (`jobs`).

Doors: `local.LocalLauncher` and `jobs.launcher.launcher_for` (start, cancel, resume), `watcher.Watcher` (the app's
thread), `machine_lock` (one run at a time), `gpu_sharing` (the app's model leaves the card for a run), `sampling` (room
for a second model, to sample with).
"""
