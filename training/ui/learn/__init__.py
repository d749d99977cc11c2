"""The Learn tab, for everybody: what a run's training changed, from its record, and asked anew."""
