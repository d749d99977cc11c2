"""TODO: what this room is for, and its doors."""
