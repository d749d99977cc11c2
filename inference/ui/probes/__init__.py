"""Probes of an answer: what they ask (`asking`), and their buttons and findings under it (`panel`)."""
