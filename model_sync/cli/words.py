"""The command line's own texts, in English and in Korean: `words.yaml` has them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bunriwiki.artifacts import bounded_yaml

MAX_BYTES = 2**20
LANGUAGES = ("en", "ko")


class Words:
    """The text of a key in one language: `words("pin.done", model="yolo", version="v1")`."""

    def __init__(self, language: str) -> None:
        self._texts = {key: text[language] for key, text in _texts().items()}

    def __call__(self, key: str, **facts: object) -> str:
        return self._texts[key].format(**facts) if facts else self._texts[key]


@cache
def _texts() -> dict[str, dict[str, str]]:
    found: Any = bounded_yaml.load(Path(__file__).with_name("words.yaml").read_bytes(), MAX_BYTES)
    return dict(found)


def language(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The language from `--lang`, or else from the locale; English by default."""
    for number, argument in enumerate(arguments):
        chosen = argument.removeprefix("--lang=") if argument.startswith("--lang=") else ""
        if argument == "--lang":
            chosen = "".join(arguments[number + 1 : number + 2])
        if chosen in LANGUAGES:
            return chosen
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environment.get(name))), "")
    return "ko" if locale.startswith("ko") else "en"
