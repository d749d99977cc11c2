"""The Hub: publishing adapters (`publish`), the Space (`space`), and copies of runs that outlive a disk (`backup`)."""
