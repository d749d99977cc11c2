"""What outlives the machine: copies of runs and of what is served, and their way back."""
