"""Access of the admin: the token and its sessions, or the login with Hugging Face on a Space.

Doors: `access` (`Access` checks every admin call) and `routes` (log in and log out over HTTP).
"""
