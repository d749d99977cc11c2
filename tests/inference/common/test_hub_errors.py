"""What went wrong at the Hub is said in one line, without a token; a silent Hub is not waited for for ever."""

from __future__ import annotations

import huggingface_hub
import pytest
from huggingface_hub.utils import _http

from inference.common import hub_errors
from inference.common.hub_errors import HubUnreachable, hub_exceptions, limit_waiting, one_line, reason, write_error
from tests.support.hub.client import Client
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("401", "does not accept the token"),
        ("429", "asks to wait"),
        ("503", "out of order (status 503)"),
        ("412", "refuses it (status 412)"),
        ("refused", "cannot be reached ("),
    ],
)
def test_each_kind_has_its_words(hub: Hub, hub_client: Client, kind: str, words: str) -> None:
    hub.faults.append(Fault(kind))
    with pytest.raises(hub_exceptions()) as error:
        huggingface_hub.HfApi().list_spaces_hardware()
    assert words in reason(error.value) and "\n" not in reason(error.value)


def test_a_large_file_that_was_not_taken_is_told_by_what_is_behind_it() -> None:
    """The client wraps it in a `RuntimeError`."""
    try:
        try:
            raise ConnectionResetError("reset")
        except ConnectionResetError as error:
            raise RuntimeError("Error while uploading 'w.safetensors' to the Hub.") from error
    except hub_exceptions() as error:
        assert reason(error) == "the Hub cannot be reached (ConnectionResetError)"
        assert isinstance(write_error("me/a", error), HubUnreachable)
    alone = RuntimeError("Data processing error")
    assert reason(alone) == "the Hub has not taken it: Data processing error"
    assert isinstance(write_error("me/a", alone), HubUnreachable)


def test_a_token_is_never_reason() -> None:
    text = one_line("bad token hf_abcdefghIJKL\nfor\x1b[31m " + "x" * 1000)
    assert text.startswith("bad token hf_… for [31m x") and len(text) == hub_errors.MAX_CHARS


def test_a_silent_hub_ends_in_an_error(hub: Hub, hub_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_errors, "ANSWER_SECONDS", 0.2)
    hub.faults.append(Fault("slow", seconds=1.5))
    huggingface_hub.set_client_factory(_http.default_client_factory)
    try:
        limit_waiting()
        with pytest.raises(hub_exceptions()) as error:
            huggingface_hub.HfApi().list_spaces_hardware()
        assert "Timeout" in reason(error.value)
    finally:
        huggingface_hub.set_client_factory(_http.default_client_factory)
