from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.models import KCBERT, SPECS
from bunriwiki.protocols.inference.models import MODEL_TENSORS, YOLO_TENSORS, read_texts, text_classifier
from bunriwiki.protocols.inference.tensors import Parameter, Tensor, to_raw
from bunriwiki.web.problems import RequestError

KCBERT_TENSORS = text_classifier(KCBERT)


def text(*items: bytes, shape: Sequence[int] | None = None, name: str = "text", datatype: str = "BYTES") -> Tensor:
    return Tensor(name, datatype, tuple(shape if shape is not None else [len(items)]), list(items))


def test_every_model_has_tensors() -> None:
    assert [tensors.spec for tensors in MODEL_TENSORS] == list(SPECS.values())


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts(shape: list[int]) -> None:
    assert KCBERT_TENSORS.read_request([text("가".encode(), b"b", shape=shape)], {"timeout": 5}) == ["가", "b"]


def test_photos_and_their_thresholds() -> None:
    image = text(b"1", b"2", name="image")
    assert YOLO_TENSORS.read_request([image], {}) == [Photo(b"1"), Photo(b"2")]
    read = YOLO_TENSORS.read_request([image], {"confidence": 1, "iou": 0.25})
    assert read == [Photo(b"1", confidence=1.0, iou=0.25), Photo(b"2", confidence=1.0, iou=0.25)]


@pytest.mark.parametrize(
    ("tensors", "parameters", "reason"),
    [
        ([], {}, "takes one, 'text'"),
        ([text(b"a"), text(b"b")], {}, "takes one, 'text'"),
        ([text(b"a", name="image")], {}, "takes one, 'text'"),
        ([text(b"a", datatype="FP32")], {}, "takes BYTES"),
        ([text(b"a", shape=[])], {}, r"takes \[n\] or \[n, 1\]"),
        ([text(b"a", b"b", shape=[1, 2])], {}, r"takes \[n\] or \[n, 1\]"),
        ([text(b"a", shape=[2])], {}, "has 1 elements, which does not match"),
        ([text(shape=[0])], {}, "has 0 elements, which does not match"),
        ([text(b"a", b"\xff")], {}, "Element 1 of input 'text' is no UTF-8"),
        ([text(b"a")], {"confidence": 0.5}, "'confidence' is not known"),
    ],
)
def test_invalid_requests_to_a_classifier(tensors: list[Tensor], parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        KCBERT_TENSORS.read_request(tensors, parameters)
    assert caught.value.status == 400


@pytest.mark.parametrize("value", [True, "0.5", -0.1, 1.1, float("nan")])
def test_invalid_thresholds(value: Parameter) -> None:
    with pytest.raises(RequestError, match="'iou' must be a number from 0 to 1"):
        YOLO_TENSORS.read_request([text(b"1", name="image")], {"iou": value})


def test_classifications_as_tensors() -> None:
    answers = [
        Classification("hate", 0.75, {"none": 0.25, "hate": 0.75}),
        Classification("none", 1.0, {"none": 1.0, "hate": 0.0}),
    ]
    label, score, scores = KCBERT_TENSORS.write(answers)
    assert list(label.data) == [b"hate", b"none"]
    assert list(score.data) == [0.75, 1.0]
    assert (scores.shape, list(scores.data), scores.parameters) == ((2, 2), [0.25, 0.75, 1.0, 0.0], {"labels": "none,hate"})


def test_detections_as_tensors() -> None:
    size = ImageSize(width=8, height=8)
    can = Detection("metal", "금속", 0.5, (1.0, 2.0, 3.0, 4.0))
    unclear = replace(can, uncertain=True, how_to_tell="자석을 대 보세요.")
    boxes, scores, labels, counts, uncertain = YOLO_TENSORS.write([Detections((), size), Detections((can, unclear), size)])
    assert (boxes.shape, list(boxes.data)) == ((2, 4), [1, 2, 3, 4, 1, 2, 3, 4])
    assert (list(scores.data), list(labels.data), list(counts.data)) == ([0.5, 0.5], [b"metal", b"metal"], [0, 2])
    assert (uncertain.datatype, uncertain.shape, list(uncertain.data)) == ("BOOL", (2,), [False, True])
    assert to_raw(uncertain) == b"\x00\x01"
    nothing = YOLO_TENSORS.write([Detections((), size)])
    assert [tensor.shape for tensor in nothing] == [(0, 4), (0,), (0,), (1,), (0,)]


@pytest.mark.parametrize("tensors", MODEL_TENSORS, ids=lambda tensors: str(tensors.spec.name))
def test_the_tensors_are_those_of_the_metadata(tensors: Any) -> None:
    size = ImageSize(width=8, height=8)
    answer = Detections((), size) if tensors is YOLO_TENSORS else Classification("a", 1.0, {"a": 1.0, "b": 0.0})
    kinds = {"BYTES": list, "FP32": np.float32, "INT32": np.int32, "BOOL": np.bool_}
    for spec, tensor in zip(tensors.outputs(2), tensors.write([answer]), strict=True):
        assert (spec.name, spec.datatype, len(spec.shape)) == (tensor.name, tensor.datatype, len(tensor.shape))
        assert all(wanted in (-1, size) for wanted, size in zip(spec.shape, tensor.shape, strict=True))
        assert isinstance(tensor.data, list) or tensor.data.dtype == kinds[spec.datatype]


def test_the_bytes_of_a_text_are_not_kept_beside_it() -> None:
    items = ["가".encode(), b"b"]
    assert read_texts(items, {}) == ["가", "b"]
    assert items == [b"", b""]


def test_a_text_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(RequestError, match="more than 10000 characters") as caught:
        read_texts([b"a", b"\xff" * 40_001], {})
    assert caught.value.status == 413
