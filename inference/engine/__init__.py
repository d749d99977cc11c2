"""The engine: continuous batching of requests over one base model and many LoRA adapters.

Doors: `engine.Engine` (load, adapters, stream, generate, step) and `generation.Generation`, which it gives;
`attention.use_attention` for other attention functions; `fast_paths` says which fast paths this machine has proven. A
request becomes a `Sequence`, waits in the `Scheduler`, is
read by `prefill`, decodes in the `Batch` over the `KVCache`, gets its tokens from the `Sampler`, and is read as text
by its `Generation`.
"""
