"""The sections of the Train tab, one builder each: `build_start`, `build_watch`, `build_runs`, `build_adapters`."""
