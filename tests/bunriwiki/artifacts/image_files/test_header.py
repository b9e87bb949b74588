from __future__ import annotations

import pytest

from bunriwiki.artifacts.image_files.header import (
    MAX_SCALED_PIXELS,
    MAX_SIDE,
    MAX_WHOLE_PIXELS,
    MIN_COST,
    BadImageError,
    Header,
)


@pytest.mark.parametrize(
    ("width", "height", "whole"),
    [(4032, 3024, True), (4096, 3072, True), (8160, 6120, False), (8192, 6144, False), (65_535, 100, True), (1, 1, True)],
    ids=["12 MP camera", "most of a whole one", "50 MP camera", "most of a scaled one", "longest", "smallest"],
)
def test_pictures_of_cameras_are_accepted(width: int, height: int, whole: bool) -> None:
    Header("JPEG", width, height, whole).check()


@pytest.mark.parametrize(
    ("width", "height", "whole", "advice"),
    [
        (4097, 3072, True, "Send a smaller one, or a baseline JPEG."),
        (8193, 6144, False, "Send a smaller one."),
        (65_536, 1, True, "Send a smaller one."),
        (1, 65_536, True, "Send a smaller one."),
    ],
)
def test_an_image_that_is_too_expensive_is_rejected_with_advice(width: int, height: int, whole: bool, advice: str) -> None:
    with pytest.raises(BadImageError) as caught:
        Header("PNG", width, height, whole).check()
    assert caught.value.kind == "too_large"
    assert str(caught.value).startswith(f"The image has {width} x {height} pixels")
    assert str(caught.value).endswith(advice)


def test_the_sentence_has_both_limits_in_megapixels() -> None:
    with pytest.raises(BadImageError, match="baseline JPEG may have 50 megapixels, and a progressive JPEG, a PNG or a WebP 12"):
        Header("PNG", 9000, 9000, whole=True).check()


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_broken(width: int, height: int) -> None:
    with pytest.raises(BadImageError) as caught:
        Header("PNG", width, height, whole=True).check()
    assert caught.value.kind == "broken"


def test_an_image_costs_its_pixels_a_scaled_one_a_quarter_and_none_less_than_a_forward_pass() -> None:
    assert Header("PNG", 4096, 3072, whole=True).cost == MAX_WHOLE_PIXELS
    assert Header("JPEG", 8192, 6144, whole=False).cost == MAX_SCALED_PIXELS // 4 == MAX_WHOLE_PIXELS
    assert Header("JPEG", 320, 240, whole=True).cost == MIN_COST == 1_000_000
    assert Header("JPEG", 1001, 4000, whole=False).cost == 1_001_000
    assert MAX_SIDE == 65_535
