"""GRPO on TRL's trainer: rollouts by the project's engine, a prompt read once for its group, every rollout on record.

Doors: `trainer` (`build_trainer`) makes the trainer of a run, `distributed` is the agreement of several processes. The
rest serves the trainer: `rollouts` generates and writes `rollouts.jsonl`, `log_probs` and `micro_batches` compute the
loss, `lora` places the adapter. `reference` has TRL's own gradient beside ours, for tests and the doctor.
"""
