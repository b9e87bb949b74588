from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.disposal.advice import FILE, Guide
from bunriwiki.testing.paths import MODELS

GUIDE = Guide.read()
WITH_GUIDE = pytest.mark.parametrize("label", list(GUIDE.classes))


def changed(*path: str, value: object) -> dict[str, Any]:
    """The content of the file with another `value` at `path`; None removes the field."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    *way, last = path
    place = content
    for name in way:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


def test_exactly_the_classes_of_the_bundled_model_have_advice() -> None:
    assert [label.name for label in Manifest.read(MODELS / "yolo").labels] == list(GUIDE.classes)


@WITH_GUIDE
def test_advice_is_korean_and_names_the_place_of_exceptions(label: str) -> None:
    advice = GUIDE.classes[label]
    for line in (*advice.steps, *advice.exceptions, advice.bin):
        assert any("가" <= letter <= "힣" for letter in line)
    assert all(line.endswith("다.") for line in advice.steps)
    assert all(line.count(": ") == 1 for line in advice.exceptions)
    assert len({*advice.steps, *advice.exceptions}) == len(advice.steps) + len(advice.exceptions)


@WITH_GUIDE
def test_sources_are_official(label: str) -> None:
    for source in GUIDE.classes[label].sources:
        assert source in GUIDE.sources
        assert source.publisher == "기후에너지환경부"
        assert source.url.startswith(("https://www.law.go.kr/", "https://www.xn--oy2b29bd3a601b.kr/"))
        assert source.year <= GUIDE.checked.year


def test_every_source_is_used_and_the_directive_by_all_classes() -> None:
    used = [advice.sources for advice in GUIDE.classes.values()]
    assert {source.url for sources in used for source in sources} == {source.url for source in GUIDE.sources}
    assert all(GUIDE.sources[0] in sources for sources in used)


def test_the_address_of_the_portal_is_its_korean_name_in_punycode() -> None:
    assert "분리배출.kr".encode("idna") == b"xn--oy2b29bd3a601b.kr"


def test_each_label_has_its_advice_once_and_an_unknown_label_has_none() -> None:
    found = GUIDE.on(["metal", "battery", "metal", "glass"])
    assert list(found) == ["metal", "battery", "glass"]
    assert found == {"metal": GUIDE.classes["metal"], "battery": None, "glass": GUIDE.classes["glass"]}
    assert GUIDE.on([]) == {}


@pytest.mark.parametrize(
    "content",
    [
        None,
        changed("checked", value="2026-11-22"),
        changed("checked", value=None),
        changed("sources", value=[]),
        changed("classes", value={}),
        changed("classes", "glass", value={}),
        changed("classes", "glass", "steps", value=[]),
        changed("classes", "glass", "steps", value=[1]),
        changed("classes", "glass", "steps", value="비웁니다."),
        changed("classes", "glass", "steps", value=[" 비웁니다."]),
        changed("classes", "glass", "steps", value=["가" * 121]),
        changed("classes", "glass", "exceptions", value=None),
        changed("classes", "glass", "bin", value=""),
        changed("classes", "glass", "bin", value=None),
        changed("classes", "glass", "sources", value=[]),
        changed("classes", "glass", "sources", value=["rule"]),
        changed("classes", "glass", "more", value="?"),
        changed("sources", value=[{"title": "가", "publisher": "나", "year": "2026", "url": "https://example.com"}]),
        changed("sources", value=[{"title": "가", "publisher": "나", "year": 2026, "url": "http://example.com"}]),
        changed("sources", value=[{"title": "가", "publisher": "나", "year": 2026, "url": "https://분리배출.kr"}]),
    ],
)
def test_an_invalid_file_is_rejected(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "advice.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ValidationError):
        Guide.read(path)
