"""Access of the admin: the token and its sessions, or the login with Hugging Face on a Space.

Door: `access` (`Access` checks every admin call, `access_routes` log in and out over HTTP). `hub_identity` asks the Hub
who a caller is.
"""
