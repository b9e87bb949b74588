from __future__ import annotations

import re
from string import Formatter

import pytest
import yaml

from bunriwiki.testing.paths import ROOT
from model_sync.cli.words import LANGUAGES, Words, language

CLI = ROOT / "model_sync" / "cli"
TEXTS = yaml.safe_load((CLI / "words.yaml").read_text(encoding="utf-8"))


def facts(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_every_text_is_there_in_both_languages_with_the_same_facts() -> None:
    for key, text in TEXTS.items():
        assert tuple(text) == LANGUAGES, key
        assert facts(text["en"]) == facts(text["ko"]), key
        assert re.search("[가-힣]", text["ko"]) or text["ko"] == text["en"], key


def test_every_text_that_is_used_exists() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in CLI.glob("*.py"))
    used = set(re.findall(r'words\(\s*"([a-z_.0-9]+)"', code)) | set(re.findall(r'call\.say\(\s*\w+[^"]*?"([a-z_.]+)"', code))
    assert len(used) > 40
    assert used <= TEXTS.keys()


def test_facts_are_inserted() -> None:
    assert Words("en")("pin.done", model="yolo", version="v1") == "yolo is pinned to v1 until `unpin yolo`."
    assert Words("ko")("pin.done", model="yolo", version="v1").startswith("`unpin yolo`")
    assert Words("en")("column.model") == "model"


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "en"),
        ([], {"LANG": "ko_KR.UTF-8"}, "ko"),
        ([], {"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ([], {"LANG": "en_US.UTF-8", "LC_ALL": "ko_KR"}, "ko"),
        ([], {"LANG": "ko", "LC_ALL": "", "LC_MESSAGES": "de_DE"}, "en"),
        (["status", "--lang", "ko"], {}, "ko"),
        (["--lang=en", "status"], {"LANG": "ko_KR.UTF-8"}, "en"),
        (["--lang"], {"LANG": "ko_KR.UTF-8"}, "ko"),
        (["--lang", "fr"], {}, "en"),
    ],
)
def test_the_language(arguments: list[str], environment: dict[str, str], expected: str) -> None:
    assert language(arguments, environment) == expected
