"""Adapters on their way to the Hub: what is sent, from a queue on disk, by a process of its own."""
