"""The Space itself: how it is made, what it costs, when it sleeps, and what is still missing."""
