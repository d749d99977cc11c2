"""Publishing in the Adapters section: where to and how, and what of each version went to the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from inference.adapters.catalog import Version
from inference.common.errors import UserError
from training.hub.publish.queue import queue_run
from training.hub.publish.words import publish_words
from training.ui.base.context import Desk


class PublishPart:
    """Three fields, and what the buttons on the cards do with them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        training = desk.settings.training
        with gr.Row(elem_id="adapters-publish", elem_classes="lt-actions"):
            self.repo = gr.Textbox(
                training.publish_to or "",
                label="Publish to",
                placeholder="owner/name",
                info="Where Publish, on a card below, sends its adapter: a repository on the Hub, made if there is "
                "none. HF_TOKEN must have the right to write there.",
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
                    label="Go on top of what somebody else put on the main branch",
                    elem_id="adapters-publish-replace",
                )

    @property
    def fields(self) -> list[gr.components.Component]:
        """What `publish` is to be given, in its order."""
        return [self.repo, self.public, self.replace]

    def words(self, versions: Sequence[Version]) -> dict[str, str]:
        """For each version that can be published, by its name: what went so far, in words."""
        return {one.name: publish_words(folder) for one in versions if (folder := self._run(one)) is not None}

    def publish(self, versions: Sequence[Version], adapter: str, repo: Any, public: Any, replace: Any) -> str:
        """Queue the run behind a version; says where it goes. The app's watcher sees that it is sent."""
        found = next((one for one in versions if one.name == adapter), None)
        folder = self._run(found) if found else None
        if folder is None:
            raise UserError("The run of that adapter is no longer here. Choose another one.")
        named = str(repo or "").strip() or self._desk.settings.training.publish_to
        try:
            where = queue_run(folder, named, public=bool(public), replace=bool(replace))
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}). Make room there.") from error
        return f"{folder.name} is on its way to {where}."

    def _run(self, version: Version) -> Path | None:
        """The folder of the run that made it, if it is here: no path comes from the page."""
        if not version.run or version.problem or version.run != Path(version.run).name:
            return None
        folder = self._desk.store.folder / version.run
        return folder if (folder / "config.json").is_file() else None
