"""The model: loading a base, its families, tokenizer and image encoder, and LoRA adapters over it.

Doors: `request` (a request and its completion), `loading` (a base with or without weights), `lora_file` (adapters as
files), `lora_layers` (adapters in the model), `families`, `tokenizer`, `image_encoder`, `known_pictures`, `device`.
"""
