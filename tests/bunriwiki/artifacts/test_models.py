from __future__ import annotations

import msgspec
import pytest

from bunriwiki.artifacts.answers import Failure
from bunriwiki.artifacts.image_files.header import MAX_WHOLE_PIXELS, MIN_COST
from bunriwiki.artifacts.inputs import MAX_CHARACTERS, Photo, photo_cost, text_cost
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.artifacts.models import MAX_BATCH_PIXELS, MAX_CALL_PIXELS, SPECS
from bunriwiki.settings import Settings
from bunriwiki.testing.hostile_images import flat_png


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
        ("가" * (MAX_CHARACTERS + 1), "too_large"),
        ("", "invalid"),
        (" \n", "invalid"),
    ],
)
def test_a_text_that_no_model_reads_is_rejected(text: str, kind: str) -> None:
    failure = text_cost(text)
    assert isinstance(failure, Failure)
    assert failure.kind == kind


@pytest.mark.parametrize("text", ["가", "가" * MAX_CHARACTERS])
def test_all_texts_cost_the_same(text: str) -> None:
    assert text_cost(text) == 1


@pytest.mark.parametrize(("data", "kind"), [(b"no image", "unsupported"), (b"\x89PNG", "broken"), (b"", "unsupported")])
def test_data_that_is_no_photo_is_rejected(data: bytes, kind: str) -> None:
    failure = photo_cost(Photo(data=data))
    assert isinstance(failure, Failure)
    assert failure.kind == kind


def test_a_photo_costs_its_pixels(bottle: bytes) -> None:
    assert photo_cost(Photo(data=bottle)) == MIN_COST
    assert photo_cost(Photo(data=flat_png(2000, 1000))) == 2_000_000


def test_a_batch_of_small_photos_is_full_and_a_full_call_goes_into_every_queue() -> None:
    assert SPECS["yolo"].max_batch_size * MIN_COST == MAX_BATCH_PIXELS
    assert MAX_WHOLE_PIXELS < MAX_CALL_PIXELS
    [smallest] = [rule.ge for rule in Settings.model_fields["max_queue_megapixels"].metadata]
    assert smallest * 1_000_000 == MAX_CALL_PIXELS
