from __future__ import annotations

import io

import pytest
from PIL import Image, ImageEnhance

from bunriwiki.artifacts.answers import Classification, Detections, ImageSize
from bunriwiki.artifacts.features import BRIGHTNESS, IMAGE_PIXELS, LABEL, SCORE, TEXT_LENGTH, inputs
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.reference import read_reference_photos
from bunriwiki.testing.paths import MODELS
from model_sync.quality.drift import compare
from model_sync.quality.evaluated import evaluated

NOTHING_FOUND = Detections((), ImageSize(640, 480))


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """The reference set of yolo."""
    return [(MODELS / "yolo" / sample.image).read_bytes() for sample in read_reference_photos(MODELS / "yolo")]


def darkened(photo: bytes) -> bytes:
    buffer = io.BytesIO()
    ImageEnhance.Brightness(Image.open(io.BytesIO(photo)).convert("RGB")).enhance(0.5).save(buffer, "JPEG")
    return buffer.getvalue()


def test_texts() -> None:
    found = evaluated(["좋은 하루", "a"], [Classification("none", 0.9, {}), Classification("hate", 0.8, {})])
    assert found.keys() == {LABEL, SCORE, TEXT_LENGTH}
    assert inputs(found) == 2


def test_a_photo_that_cannot_be_decoded_is_dark() -> None:
    assert evaluated([Photo(b"no photo")], [NOTHING_FOUND])[BRIGHTNESS] == {"0": 1}


def test_dark_photos_drift_from_real_ones(photos: list[bytes]) -> None:
    reference = evaluated([Photo(data) for data in photos], [NOTHING_FOUND] * len(photos))
    assert inputs(reference) == len(photos)
    assert sum(reference[BRIGHTNESS].values()) == len(photos)
    dark = evaluated([Photo(darkened(data)) for data in photos], [NOTHING_FOUND] * len(photos))
    found = compare(reference, dark)
    assert found[BRIGHTNESS].drifted
    assert not found[IMAGE_PIXELS].drifted
    assert not compare(reference, reference)[BRIGHTNESS].drifted
