"""Answers asked anew for the Train tab: `pinned` (to the pinned questions), `taught` (the tokens of a rollout)."""
