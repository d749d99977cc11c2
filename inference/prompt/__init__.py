"""The prompt: the protocol between prompt and completion, and the checks of what a visitor sends.

Doors: `format` (system prompts, tags and the one parser), `question`, `image`, and `system_prompt` (an adapter's own).
"""
