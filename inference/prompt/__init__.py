"""The prompt: the protocol between prompt and completion, and the check of the pictures that visitors send.

Doors: `format` (system prompts, tags and the one parser), `image`, and `system_prompt` (the named prompts, and that of
an adapter).
"""
