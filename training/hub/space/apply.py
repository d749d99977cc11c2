"""The Hub's side of a deployment: how the Space stands now, and each step of a plan done by the Hub's client.

hub = SpaceOnHub(wanted, checkout, token)
for step in plan(wanted, hub.look()):
    hub.do(step)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inference.common.errors import UserError
from inference.common.hub_errors import hub_exceptions, one_line, reason, status_of
from training.hub.space.checkout import Checkout, Digest
from training.hub.space.plan import STATE_FOLDER, TOKEN_SECRET, Found, Mount, Step, Wanted, file_changes

_SECRET_WORDS = "The Space publishes, trains and keeps itself awake with it."


class SpaceOnHub:
    """One Space and its bucket; errors of the Hub become `UserError` with the step that they struck."""

    def __init__(self, wanted: Wanted, checkout: Checkout, token: str | None, space_token: str) -> None:
        """`token` is what the client uses (`None`: its own login), `space_token` what the Space gets."""
        from huggingface_hub import HfApi

        self._wanted, self._checkout, self._space_token = wanted, checkout, space_token
        self._api = HfApi(token=token)
        self._found = Found()

    def look(self) -> Found:
        """How it stands."""
        try:
            self._found = self._look()
        except UserError:
            raise
        except hub_exceptions() as error:
            raise UserError(
                f"{self._wanted.space} could not be looked at: {reason(error)}. Nothing was changed."
            ) from error
        return self._found

    def do(self, step: Step) -> None:
        """One step; what was done before it stays, and is not done again by the next deployment."""
        try:
            getattr(self, f"_do_{step.kind}")(step)
        except hub_exceptions() as error:
            raise UserError(f"It stopped where it was to {step.words}: {_remedy(error)}") from error

    def _look(self) -> Found:
        from huggingface_hub.errors import RepositoryNotFoundError

        name = self._wanted.space
        bucket_exists, is_public = self._bucket()
        try:
            info = self._api.space_info(name)
        except RepositoryNotFoundError:
            return Found(bucket_exists=bucket_exists, bucket_is_public=is_public)
        if info.id != name:
            raise UserError(
                f"{name} is called {info.id} on the Hub: it was moved, or written otherwise. Take that name."
            )
        runtime = self._api.get_space_runtime(name)
        return Found(
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
        """Whether it is there, and whether everybody can read it."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            found = self._api.bucket_info(self._wanted.bucket)
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            return False, False
        return True, not found.private

    def _files(self, commit: str) -> dict[str, Digest]:
        from huggingface_hub import RepoFile

        tree: Iterable[Any] = self._api.list_repo_tree(
            self._wanted.space, recursive=True, revision=commit, repo_type="space"
        )
        return {
            entry.path: Digest("" if entry.lfs else entry.blob_id, entry.lfs.sha256 if entry.lfs else "")
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    def _do_bucket(self, step: Step) -> None:
        self._api.create_bucket(self._wanted.bucket, private=True, exist_ok=True)

    def _do_create(self, step: Step) -> None:
        wanted = self._wanted
        secret = {"key": TOKEN_SECRET, "value": self._space_token, "description": _SECRET_WORDS}
        self._api.create_repo(
            wanted.space,
            repo_type="space",
            space_sdk="gradio",
            private=wanted.private,
            space_hardware=wanted.hardware,  # type: ignore[arg-type]
            space_sleep_time=None if wanted.hardware == "cpu-basic" else wanted.sleep_seconds,
            space_secrets=[secret],
            space_variables=[{"key": key, "value": value} for key, value in wanted.variables.items()],
            space_volumes=self._volumes(()),
        )
        self._found = self._look()

    def _do_volumes(self, step: Step) -> None:
        runtime = self._api.get_space_runtime(self._wanted.space)
        self._api.set_space_volumes(self._wanted.space, self._volumes(runtime.volumes or ()))

    def _volumes(self, others: Iterable[Any]) -> list[Any]:
        """All that is mounted: setting volumes replaces those there were."""
        from huggingface_hub import Volume

        mine = Volume(type="bucket", source=self._wanted.bucket, mount_path=STATE_FOLDER)
        return [mine, *(volume for volume in others if volume.mount_path != STATE_FOLDER)]

    def _do_variable(self, step: Step) -> None:
        self._api.add_space_variable(self._wanted.space, step.name, self._wanted.variables[step.name])

    def _do_secret(self, step: Step) -> None:
        self._api.add_space_secret(self._wanted.space, TOKEN_SECRET, self._space_token, description=_SECRET_WORDS)

    def _do_files(self, step: Step) -> None:
        """One commit on top of what was looked at; where somebody was faster, the Hub refuses it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        changes = file_changes(self._wanted.files, self._found.files)
        operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
            *(CommitOperationAdd(name, str(self._checkout.path(name))) for name in (*changes.added, *changes.replaced)),
            *(CommitOperationDelete(name) for name in changes.deleted),
        ]
        self._api.create_commit(
            self._wanted.space,
            operations,
            commit_message=f"LookThink {self._checkout.commit}",
            repo_type="space",
            parent_commit=self._found.commit,
        )

    def _do_hardware(self, step: Step) -> None:
        wanted = self._wanted
        sleep = None if wanted.hardware == "cpu-basic" else wanted.sleep_seconds
        self._api.request_space_hardware(wanted.space, wanted.hardware, sleep_time=sleep)  # type: ignore[arg-type]

    def _do_sleep(self, step: Step) -> None:
        self._api.set_space_sleep_time(self._wanted.space, self._wanted.sleep_seconds)


def _remedy(error: Exception) -> str:
    """What the Hub said, and what to do."""
    status = status_of(error)
    if status is None and type(error) is ValueError:  # the Hub's check of README.md, in the client's words
        return f"{one_line(str(error))}. Correct it in space.yaml, and run make space."
    if status == 402:
        return f"{reason(error)}. Add a payment method and credits, or take other hardware in space.yaml."
    if status == 412:
        return "the Space was changed by another hand in between. Run the command again and look at its plan."
    if status in (401, 403):
        return f"{reason(error)}. The token must be allowed to write there; make one at the Hub under Access Tokens."
    return f"{reason(error)}. What was done stays; run the same command again, and it does only what is missing."
