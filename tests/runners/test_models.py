"""The shipped models through the real pre- and post-processing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bunriwiki.artifacts.answers import Classification, Detections, Failure
from bunriwiki.artifacts.golden import read_golden_photos, read_golden_texts
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest, describe_files
from bunriwiki.testing.paths import MODELS, PHOTOS
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo

pytestmark = pytest.mark.slow

MIN_GOLDEN = 64


@pytest.fixture(scope="module")
def yolo() -> Yolo:
    return Yolo(MODELS / "yolo")


@pytest.fixture(scope="module")
def kcbert() -> KcBert:
    return KcBert(MODELS / "kcbert")


@pytest.fixture(scope="module")
def sentiment() -> Sentiment:
    return Sentiment(MODELS / "sentiment")


def test_the_detector_answers_as_its_original(yolo: Yolo) -> None:
    samples = read_golden_photos(MODELS / "yolo")
    assert len(samples) >= MIN_GOLDEN
    photos = [Photo(data=(MODELS / "yolo" / one.image).read_bytes(), confidence=one.confidence) for one in samples]
    for sample, answer in zip(samples, yolo.predict(photos).results, strict=True):
        assert isinstance(answer, Detections)
        assert sample.differs(answer) is None, sample.image


@pytest.mark.parametrize("name", ["kcbert", "sentiment"])
def test_the_classifiers_answer_as_their_originals(name: str, request: pytest.FixtureRequest) -> None:
    samples = read_golden_texts(MODELS / name)
    assert len(samples) >= MIN_GOLDEN
    answers = request.getfixturevalue(name).predict([one.text for one in samples]).results
    for sample, answer in zip(samples, answers, strict=True):
        assert isinstance(answer, Classification)
        assert sample.differs(answer) is None, sample.text


@pytest.mark.parametrize(
    ("photo", "label", "label_ko"),
    [
        ("plastic_bottle", "plastic", "플라스틱"),
        ("glass_bottle", "glass", "유리"),
        ("can", "metal", "금속"),
        ("cardboard_box", "cardboard", "골판지"),
        ("paper_bag", "paper", "종이"),
    ],
)
def test_finds_the_object(yolo: Yolo, photo: str, label: str, label_ko: str) -> None:
    [answer] = yolo.predict([Photo(data=(PHOTOS / f"{photo}.jpg").read_bytes())]).results
    assert isinstance(answer, Detections)
    best = answer.detections[0]
    assert (best.label, best.label_ko) == (label, label_ko)
    x1, y1, x2, y2 = best.box
    assert 0 <= x1 < x2 <= answer.image.width
    assert 0 <= y1 < y2 <= answer.image.height
    assert (x2 - x1) * (y2 - y1) > 0.2 * answer.image.width * answer.image.height


def test_boxes_are_in_pixels_of_the_photo_however_large_it_is(yolo: Yolo, bottle: bytes) -> None:
    image = Image.open(io.BytesIO(bottle))
    stream = io.BytesIO()
    image.resize((image.width * 8, image.height * 8), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
    small, large = yolo.predict([Photo(data=bottle), Photo(data=stream.getvalue())]).results
    assert isinstance(small, Detections)
    assert isinstance(large, Detections)
    assert [edge / 8 for edge in large.detections[0].box] == pytest.approx(small.detections[0].box, abs=12)


def test_a_higher_confidence_leaves_the_higher_scores(yolo: Yolo, bottle: bytes) -> None:
    low, high, none = yolo.predict([Photo(data=bottle, confidence=one) for one in (0.01, 0.25, 1.0)]).results
    assert isinstance(low, Detections)
    assert isinstance(high, Detections)
    assert isinstance(none, Detections)
    assert [one for one in low.detections if one.score >= 0.25] == list(high.detections)
    assert none.detections == ()


def test_different_thresholds_in_one_batch_are_each_respected(yolo: Yolo, bottle: bytes) -> None:
    photos = [Photo(data=bottle, confidence=0.05, iou=iou) for iou in (0.0, 0.9, 0.5)]
    together = yolo.predict(photos).results
    assert together == tuple(yolo.predict([photo]).results[0] for photo in photos)


def test_a_broken_photo_does_not_fail_its_neighbours(yolo: Yolo, bottle: bytes, make_image: Callable[..., bytes]) -> None:
    photos = [Photo(data=bottle), Photo(data=bottle[:500]), Photo(data=make_image("PNG", mode="L"))]
    first, broken, last = yolo.predict(photos).results
    assert isinstance(broken, Failure)
    assert broken.kind == "broken"
    assert first == yolo.predict([photos[0]]).results[0]
    assert isinstance(last, Detections)


def test_the_sentiment_of_plain_sentences(sentiment: Sentiment) -> None:
    good, bad = sentiment.predict(["정말 재미있어요. 최고의 영화!", "시간 낭비였다. 돈이 아깝다."]).results
    assert isinstance(good, Classification)
    assert isinstance(bad, Classification)
    assert (good.label, bad.label) == ("긍정", "부정")
    assert list(good.details) == ["긍정", "부정", "중립/복합"]


def test_a_long_comment_is_marked_as_truncated(kcbert: KcBert) -> None:
    short, long = kcbert.predict(["좋은 하루 보내세요", "가나다 " * 2000]).results
    assert isinstance(short, Classification)
    assert isinstance(long, Classification)
    assert (short.truncated, long.truncated) == (False, True)


@pytest.mark.parametrize("name", ["kcbert", "sentiment"])
def test_neighbours_do_not_change_an_answer(name: str, request: pytest.FixtureRequest) -> None:
    texts = (MODELS.parent / "tests" / "data" / "texts.txt").read_text(encoding="utf-8").splitlines()
    model = request.getfixturevalue(name)
    for text, together in zip(texts, model.predict(texts).results, strict=True):
        [alone] = model.predict([text]).results
        assert alone.label == together.label
        assert alone.details == pytest.approx(together.details, abs=1e-3)


@pytest.mark.parametrize("text", ["\x00", "\u200b", "😭" * 50, "a" * 10_000, "\n\n가", "'; DROP TABLE;--"])
def test_odd_texts_are_answered(kcbert: KcBert, sentiment: Sentiment, text: str) -> None:
    for model in (kcbert, sentiment):
        [answer] = model.predict([text]).results
        assert isinstance(answer, Classification)


def test_a_model_without_its_tokenizer_is_rejected(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "kcbert", tmp_path / "kcbert")
    (folder / "tokenizer.json").unlink()
    manifest = Manifest.read(folder)
    manifest.model_copy(update={"files": describe_files(folder)}).write(folder)
    with pytest.raises(DamagedArtifactError, match="is not a valid tokenizer"):
        KcBert(folder)


@pytest.mark.parametrize(("model", "other"), [(Yolo, "kcbert"), (KcBert, "yolo"), (Sentiment, "yolo")])
def test_a_version_of_another_kind_is_rejected(model: Callable[[Path], object], other: str) -> None:
    with pytest.raises(DamagedArtifactError):
        model(MODELS / other)


def test_the_classifier_measures_unknown_tokens(kcbert: KcBert) -> None:
    answers = kcbert.predict(["좋은 하루 보내세요", "𓂀 𓂀 𓂀 𓂀"])
    known, unknown = answers.measured["unknown_tokens"]
    assert (known, unknown) == (0, 1)


def test_the_detector_measures_brightness(yolo: Yolo) -> None:
    def photo(grey: int, size: tuple[int, int]) -> Photo:
        buffer = io.BytesIO()
        Image.new("RGB", size, (grey,) * 3).save(buffer, "PNG")
        return Photo(data=buffer.getvalue())

    photos = [photo(0, (64, 640)), photo(255, (640, 3)), Photo(data=b"no photo"), photo(128, (320, 320))]
    assert yolo.predict(photos).measured["brightness"] == [0, 1, 0, pytest.approx(128 / 255, abs=1e-3)]
