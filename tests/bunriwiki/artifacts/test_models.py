from __future__ import annotations

import msgspec
import pytest

from bunriwiki.artifacts.inputs import MAX_CHARACTERS, Photo, check_photo, check_text
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.artifacts.models import SPECS


def test_every_model_has_a_specification() -> None:
    assert tuple(SPECS) == MODELS
    assert all(spec.name == name for name, spec in SPECS.items())


@pytest.mark.parametrize("name", SPECS)
def test_inputs_and_answers_can_be_encoded(name: str) -> None:
    for kind in (SPECS[name].input, SPECS[name].answer):
        msgspec.msgpack.Decoder(kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("가", None),
        ("가" * MAX_CHARACTERS, None),
        ("가" * (MAX_CHARACTERS + 1), "too_large"),
        ("", "invalid"),
        (" \n", "invalid"),
    ],
)
def test_texts_are_checked(text: str, kind: str | None) -> None:
    failure = check_text(text)
    assert (failure and failure.kind) == kind


@pytest.mark.parametrize(("data", "kind"), [(b"no image", "unsupported"), (b"\x89PNG", "broken"), (b"", "unsupported")])
def test_photos_are_checked(data: bytes, kind: str, bottle: bytes) -> None:
    assert check_photo(Photo(data=bottle)) is None
    failure = check_photo(Photo(data=data))
    assert failure is not None
    assert failure.kind == kind
