"""The command line's own texts, in English and in Korean: `words.yaml` has them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

LANGUAGES = ("en", "ko")


class Words:
    """The text of a key in one language: `words("pin.done", model="yolo", version="v1")`."""

    def __init__(self, language: str) -> None:
        texts: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
        self._texts = {key: text[language] for key, text in texts.items()}

    def __call__(self, key: str, **facts: object) -> str:
        return self._texts[key].format(**facts) if facts else self._texts[key]


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
