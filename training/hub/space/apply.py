"""Reads the state of a Space from the Hub, and carries out the steps of a plan with the Hub's client.

hub = SpaceOnHub(deployment, checkout, token)
for step in plan(deployment, hub.look()):
    hub.do(step)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.hub_errors import hub_exceptions, one_line, reason, status_of
from inference.common.space_file import FREE_HARDWARE
from training.hub.space.plan import (
    STATE_FOLDER,
    TOKEN_SECRET,
    Checkout,
    Deployment,
    Digest,
    Mount,
    SpaceState,
    Step,
    file_changes,
)

if TYPE_CHECKING:
    from huggingface_hub import Volume

_SECRET_WORDS = "The Space publishes, trains and keeps itself awake with it."


class SpaceOnHub:
    """A Space and its bucket; errors of the Hub become `UserError`, which names the step."""

    def __init__(self, deployment: Deployment, checkout: Checkout, token: str | None, space_token: str) -> None:
        """`token` is the client's (`None`: its own login), `space_token` the Space's."""
        from huggingface_hub import HfApi

        self._deployment, self._checkout, self._space_token = deployment, checkout, space_token
        self._api = HfApi(token=token)
        self._state = SpaceState()

    def look(self) -> SpaceState:
        """Reads the present state. Raises `UserError`."""
        try:
            self._state = self._look()
        except UserError:
            raise
        except hub_exceptions() as error:
            raise UserError(
                f"{self._deployment.space} could not be read: {reason(error)}. Nothing was changed."
            ) from error
        return self._state

    def do(self, step: Step) -> None:
        """Carries out one step; a later deployment does not repeat the steps that are done. Raises `UserError`."""
        try:
            getattr(self, f"_do_{step.kind}")(step)
        except hub_exceptions() as error:
            raise UserError(f"It stopped at this step: {step.words}: {_remedy(error)}") from error

    def _look(self) -> SpaceState:
        from huggingface_hub.errors import RepositoryNotFoundError

        name = self._deployment.space
        bucket_exists, is_public = self._bucket()
        try:
            info = self._api.space_info(name)
        except RepositoryNotFoundError:
            return SpaceState(bucket_exists=bucket_exists, bucket_is_public=is_public)
        if info.id != name:
            raise UserError(f"{name} is called {info.id} on the Hub. Use that name.")
        runtime = self._api.get_space_runtime(name)
        return SpaceState(
            exists=True,
            commit=str(info.sha),
            files=self._files(str(info.sha)),
            hardware=str(runtime.requested_hardware or runtime.hardware or ""),
            sleep_seconds=runtime.sleep_time,
            stage=str(runtime.stage),
            is_private=bool(info.private),
            bucket_exists=bucket_exists,
            bucket_is_public=is_public,
            mounts=tuple(Mount(v.source, v.mount_path) for v in runtime.volumes or ()),
            variables={key: one.value for key, one in self._api.get_space_variables(name).items()},
            secrets=frozenset(self._api.get_space_secrets(name)),
        )

    def _bucket(self) -> tuple[bool, bool]:
        """Two flags: it exists, and it is public."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            state = self._api.bucket_info(self._deployment.bucket)
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            return False, False
        return True, not state.private

    def _files(self, commit: str) -> dict[str, Digest]:
        from huggingface_hub import RepoFile

        tree = self._api.list_repo_tree(self._deployment.space, recursive=True, revision=commit, repo_type="space")
        return {
            entry.path: Digest("" if entry.lfs else entry.blob_id, entry.lfs.sha256 if entry.lfs else "")
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    def _do_bucket(self, step: Step) -> None:
        self._api.create_bucket(self._deployment.bucket, private=True, exist_ok=True)

    def _do_create(self, step: Step) -> None:
        deployment = self._deployment
        secret = {"key": TOKEN_SECRET, "value": self._space_token, "description": _SECRET_WORDS}
        self._api.create_repo(
            deployment.space,
            repo_type="space",
            space_sdk="gradio",
            private=deployment.private,
            space_hardware=deployment.hardware,  # type: ignore[arg-type]
            space_sleep_time=None if deployment.hardware in FREE_HARDWARE else deployment.sleep_seconds,
            space_secrets=[secret],
            space_variables=[{"key": key, "value": value} for key, value in deployment.variables.items()],
            space_volumes=self._volumes(()),
        )
        self._state = self._look()

    def _do_volumes(self, step: Step) -> None:
        runtime = self._api.get_space_runtime(self._deployment.space)
        self._api.set_space_volumes(self._deployment.space, self._volumes(runtime.volumes or ()))

    def _volumes(self, others: Iterable[Volume]) -> list[Volume]:
        """All volumes: setting some replaces all that were mounted before."""
        from huggingface_hub import Volume

        mine = Volume(type="bucket", source=self._deployment.bucket, mount_path=STATE_FOLDER)
        return [mine, *(volume for volume in others if volume.mount_path != STATE_FOLDER)]

    def _do_variable(self, step: Step) -> None:
        self._api.add_space_variable(self._deployment.space, step.name, self._deployment.variables[step.name])

    def _do_secret(self, step: Step) -> None:
        self._api.add_space_secret(self._deployment.space, TOKEN_SECRET, self._space_token, description=_SECRET_WORDS)

    def _do_files(self, step: Step) -> None:
        """One commit on top of the one that was read; if somebody has committed since, the Hub refuses it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        changes = file_changes(self._deployment.files, self._state.files)
        operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
            *(CommitOperationAdd(name, str(self._checkout.path(name))) for name in (*changes.added, *changes.replaced)),
            *(CommitOperationDelete(name) for name in changes.deleted),
        ]
        self._api.create_commit(
            self._deployment.space,
            operations,
            commit_message=f"LookThink {self._checkout.commit}",
            repo_type="space",
            parent_commit=self._state.commit,
        )

    def _do_hardware(self, step: Step) -> None:
        deployment = self._deployment
        sleep = None if deployment.hardware in FREE_HARDWARE else deployment.sleep_seconds
        self._api.request_space_hardware(deployment.space, deployment.hardware, sleep_time=sleep)  # type: ignore[arg-type]

    def _do_sleep(self, step: Step) -> None:
        self._api.set_space_sleep_time(self._deployment.space, self._deployment.sleep_seconds)


def _remedy(error: Exception) -> str:
    """The Hub's reason with the remedy."""
    status = status_of(error)
    if status is None and type(error) is ValueError:  # the Hub's check of README.md, in the client's words
        return f"{one_line(str(error))}. Correct it in space.yaml, and run make space."
    if status == 402:
        return f"{reason(error)}. Add a payment method and credits, or take other hardware in space.yaml."
    if status == 412:
        return "the Space was changed by somebody else meanwhile. Run the command again and read its plan."
    if status in (401, 403):
        return f"{reason(error)}. The token must be allowed to write there; make one at the Hub under Access Tokens."
    return f"{reason(error)}. The steps before it are done; run the same command again for the rest."
