"""The licence of a base, for the person who is about to publish an adapter of it.

    print(licence_words("Qwen/Qwen2.5-VL-3B-Instruct"))     # by its card on the Hub, else by the table below

An adapter is made from its base, so it is bound by the base's licence. The card on the Hub counts; the table stands in
where the Hub cannot be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference.common.background import CachedAnswers
from inference.common.hub_errors import hub_exceptions, status_of
from inference.common.hub_names import is_hub_name
from training.config.data_config import STARTER
from training.hub.publish.model_card import Licence

if TYPE_CHECKING:
    from huggingface_hub import HfApi

APACHE = Licence("apache-2.0")
_QWEN_3B = "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE"
_QWEN_72B = "https://huggingface.co/Qwen/Qwen2.5-VL-72B-Instruct/blob/main/LICENSE"
_OLDER_72B = "https://huggingface.co/Qwen/Qwen2-VL-72B-Instruct/blob/main/LICENSE"
LICENCES: dict[str, Licence] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Licence("other", "qwen-research", _QWEN_3B),
    "Qwen/Qwen2.5-VL-7B-Instruct": APACHE,
    "Qwen/Qwen2.5-VL-32B-Instruct": APACHE,
    "Qwen/Qwen2.5-VL-72B-Instruct": Licence("other", "qwen", _QWEN_72B),
    "Qwen/Qwen2-VL-2B-Instruct": APACHE,
    "Qwen/Qwen2-VL-7B-Instruct": APACHE,
    "Qwen/Qwen2-VL-72B-Instruct": Licence("other", "tongyi-qianwen", _OLDER_72B),
    "Qwen/Qwen3-VL-2B-Instruct": APACHE,
    "Qwen/Qwen3-VL-4B-Instruct": APACHE,
    "Qwen/Qwen3-VL-8B-Instruct": APACHE,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": APACHE,
    "HuggingFaceTB/SmolVLM-Instruct": APACHE,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": APACHE,
    "HuggingFaceM4/Idefics3-8B-Llama3": APACHE,
}
"""Licences by the bases' cards as of 2025."""
LIMITS = {
    "qwen-research": "for research, not for commercial use",
    "qwen": "with conditions for large services",
    "tongyi-qianwen": "with conditions for large services",
}
"""The limit that each licence that is not open sets, in a few words."""
OPEN = ("apache-2.0", "mit", "bsd-3-clause")
_FRESH_SECONDS, _RETRY_SECONDS = 3600.0, 60.0


def licence_words(base: str) -> str:
    """One or two sentences: the licence of the base, its limit, and the source; waits for the Hub some seconds at most.

    >>> licence_words("starter")
    'Its base, the starter, is under apache-2.0.'
    """
    if base == STARTER:
        return "Its base, the starter, is under apache-2.0."
    if not is_hub_name(base):
        return "Its base is a folder of this machine: check that its licence lets you publish adapters of it."
    found = _of_the_hub.get(base)
    licence, source = (found, "its card on the Hub") if found else (LICENCES.get(base), "the list that LookThink ships")
    if licence is None:
        return f"The licence of its base, {base}, is not known here: read its card on the Hub before you publish."
    name = licence.name or licence.id
    limit = f", {LIMITS[name]}" if name in LIMITS else ""
    words = f"Its base, {base}, is under {name}{limit} (by {source})."
    if name in OPEN:
        return words
    where = f" at {licence.link}" if (licence.link or "").startswith("https://") else ", on its card,"
    return f"{words} The adapter is bound by it too: read it{where} before you publish."


def licence_on_hub(api: HfApi, kind: str, name: str | None) -> Licence | None:
    """The licence that a repository's card names; `None` if there is no such repository or licence."""
    if name is None:
        return None
    try:
        info = api.model_info(name) if kind == "model" else api.dataset_info(name)
    except Exception as error:
        if status_of(error) in (401, 403, 404):  # gated, private or deleted: the card says that it is not known
            return None
        raise
    return Licence.of(info.card_data.to_dict() if info.card_data is not None else {})


def _ask_the_hub(base: str) -> Licence | None:
    from huggingface_hub import HfApi

    try:
        return licence_on_hub(HfApi(), "model", base)
    except hub_exceptions():
        return None


_of_the_hub: CachedAnswers[str, Licence | None] = CachedAnswers(
    _ask_the_hub, lambda licence: _FRESH_SECONDS if licence else _RETRY_SECONDS, wait_seconds=5
)
