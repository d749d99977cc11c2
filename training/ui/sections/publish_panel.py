"""Publishing in the Adapters section: where to and how, and the state of each version on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component

from inference.adapters.catalog import Version
from inference.common.errors import UserError
from training.hub.publish.queue import queue_run
from training.hub.publish.words import publish_words
from training.ui.base.context import Context


class PublishPanel:
    """Three fields, and the action behind the Publish buttons on the cards."""

    def __init__(self, context: Context) -> None:
        self._context = context
        training = context.settings.training
        with gr.Row(elem_id="adapters-publish", elem_classes="lt-actions"):
            self.repo = gr.Textbox(
                training.publish_to or "",
                label="Publish to",
                placeholder="owner/name",
                info="The repository on the Hub that Publish, on a card below, sends its adapter to; it is made if it "
                "does not exist. HF_TOKEN must have the right to write there.",
                max_length=120,
                max_lines=1,
                scale=3,
                elem_id="adapters-publish-to",
            )
            with gr.Column(scale=2, min_width=240, elem_id="adapters-publish-how"):
                self.public = gr.Checkbox(
                    training.publish_public, label="Make a new repository public", elem_id="adapters-publish-public"
                )
                self.replace = gr.Checkbox(
                    False,
                    label="Publish on top of somebody else's commit on the main branch",
                    elem_id="adapters-publish-replace",
                )

    @property
    def fields(self) -> list[Component]:
        """The components whose values `publish` takes, in its order."""
        return [self.repo, self.public, self.replace]

    def states(self, versions: Sequence[Version]) -> dict[str, str]:
        """By the name of each version that can be published, its state on the Hub in words."""
        return {one.name: publish_words(folder) for one in versions if (folder := self._run_folder(one)) is not None}

    def publish(self, versions: Sequence[Version], adapter: str, repo: object, public: object, replace: object) -> str:
        """Queue the run behind a version, for the app's watcher to publish; returns a message."""
        version = next((one for one in versions if one.name == adapter), None)
        folder = self._run_folder(version) if version else None
        if folder is None:
            raise UserError("The run of that adapter is no longer here. Choose another one.")
        target = str(repo or "").strip() or self._context.settings.training.publish_to
        try:
            where = queue_run(folder, target, public=bool(public), replace=bool(replace))
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}). Make room there.") from error
        return f"{folder.name} is on its way to {where}."

    def _run_folder(self, version: Version) -> Path | None:
        """The folder of the run that made it, if it is here; no path comes from the page."""
        if not version.run or version.problem or version.run != Path(version.run).name:
            return None
        folder = self._context.store.folder / version.run
        return folder if (folder / "config.json").is_file() else None
