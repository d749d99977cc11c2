"""The system prompt of an adapter that does not say its own: a field for the choice, and a few problems under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from inference.common.errors import UserError
from inference.common.html import escape
from inference.prompt.system_prompt import MAX_CHARS, chosen_prompt, prompt_text, prompts_with
from training.evaluation.prompt_trial import Trial, scores_text, trial_problems, try_prompts
from training.ui.base.context import Context

TRIAL_SECONDS = 600.0
"""The most that the problems may take together."""


class PromptChoice:
    """The components, and what the section does with them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        with gr.Row(elem_id="adapters-prompt", elem_classes="lt-actions"):
            self.prompt = gr.Textbox(
                label="Its system prompt",
                placeholder="as its repository says",
                info="Only for an adapter that does not say which one it was trained with: lookthink, r1, or the text "
                "itself. It is kept with the adapter. Compare prompts asks a few problems under each, and promotes "
                "nothing.",
                max_length=MAX_CHARS,
                max_lines=6,
                scale=3,
                elem_id="adapters-prompt-text",
            )
            self.compare = gr.Button("Compare prompts", elem_id="adapters-prompt-compare", scale=1)
        self.trials = gr.HTML(js_on_load=None, elem_id="adapters-trials")

    def chosen(self, typed: object) -> str | None:
        """The text that was chosen; `None` for an empty field. Raises `UserError`; no file is read for a page."""
        text = str(typed or "").strip()
        return prompt_text(chosen_prompt(text, may_be_file=False)) if text else None

    def trials_html(self, adapter: Path, typed: object) -> str:
        """A few problems, asked with the adapter in a folder under the named prompts and the chosen one."""
        queue = self._context.queue
        if queue is None or queue.engine is None:
            raise UserError("The model is not loaded yet. Compare the prompts when it is.")
        prompts = prompts_with(self.chosen(typed))
        problems = trial_problems(self._context.settings.is_starter)
        trials = try_prompts(
            queue.engine, lambda asked: queue.submit(asked).completions(TRIAL_SECONDS), adapter, problems, prompts
        )
        return _html(trials)


def _html(trials: Sequence[Trial]) -> str:
    names = list(trials[0].answered)
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("Problem", *names))
    rows = "".join(
        f"<tr><td>{escape(trial.question, 600)}<br>Answer: {escape(trial.answer, 200)}</td>"
        + "".join(
            f"<td><strong>{answered.verdict}</strong><br>{escape(answered.text, 2_000)}</td>"
            for answered in trial.answered.values()
        )
        + "</tr>"
        for trial in trials
    )
    return (
        f'<p class="lt-quiet" role="status">{escape(scores_text(trials))}</p><div class="lt-table" tabindex="0" '
        'role="group" aria-label="Problems under each system prompt"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
