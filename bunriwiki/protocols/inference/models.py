"""Each model's tensors: what it takes, what it gives, and how they become inputs and come from answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import THRESHOLDS, Photo
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.inference.tensors import Tensor, TensorSpec, elements

IMAGE = TensorSpec("image", "BYTES", (-1,))
TEXT = TensorSpec("text", "BYTES", (-1,))
CALL_PARAMETERS = {"timeout", "priority", "triton_enable_empty_final_response"}  # of Triton's clients; not for a model


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a model."""

    takes: TensorSpec
    gives: tuple[TensorSpec, ...]


def signature(model: str, classes: int) -> Signature:
    """The tensors of a model whose version knows so many classes."""
    if model == "yolo":
        boxes, scores = TensorSpec("boxes", "FP32", (-1, 4)), TensorSpec("scores", "FP32", (-1,))
        labels, counts = TensorSpec("labels", "BYTES", (-1,)), TensorSpec("num_detections", "INT32", (-1,))
        return Signature(IMAGE, (boxes, scores, labels, counts))
    label, score = TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,))
    return Signature(TEXT, (label, score, TensorSpec("scores", "FP32", (-1, classes))))


def read_inputs(model: str, tensors: Sequence[Tensor], parameters: Mapping[str, Any]) -> list[Photo] | list[str]:
    """The inputs of a call, one per element. Raises RequestError."""
    spec = IMAGE if model == "yolo" else TEXT
    items = _only(spec, tensors)
    known = THRESHOLDS if model == "yolo" else {}
    for name in parameters.keys() - known - CALL_PARAMETERS:
        raise errors.broken(f"The parameter {name[:40]!r} is not known here. Leave it out.")
    if model == "yolo":
        thresholds = {name: _threshold(name, parameters.get(name, default)) for name, default in known.items()}
        return [Photo(data=item, **thresholds) for item in items]
    return [_text(item, position) for position, item in enumerate(items)]


def write_outputs(answers: Sequence[Detections] | Sequence[Classification]) -> list[Tensor]:
    """The tensors of the answers, in the order of `signature`. There is at least one answer, all are of one kind."""
    if isinstance(answers[0], Detections):
        return _detections([one for one in answers if isinstance(one, Detections)])
    return _classifications([one for one in answers if isinstance(one, Classification)])


def _only(spec: TensorSpec, tensors: Sequence[Tensor]) -> list[bytes]:
    names = [tensor.name for tensor in tensors]
    if names != [spec.name]:
        raise errors.broken(f"The call has the inputs {[name[:40] for name in names[:5]]}; the model takes one, {spec.name!r}.")
    [tensor] = tensors
    if tensor.datatype != spec.datatype:
        raise errors.broken(f"Input {spec.name!r} has the datatype {tensor.datatype[:20]!r}; the model takes {spec.datatype}.")
    if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise errors.broken(f"Input {spec.name!r} has the shape {list(tensor.shape[:5])}; the model takes [n] or [n, 1].")
    items = [item for item in tensor.data if isinstance(item, bytes)]
    if not items or len(items) != elements(tensor.name, tensor.shape) or len(items) != len(tensor.data):
        raise errors.broken(f"Input {spec.name!r} has {len(items)} elements; its shape says {list(tensor.shape)}.")
    return items


def _threshold(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise errors.broken(f"The parameter {name!r} must be a number from 0 to 1.")
    return float(value)


def _text(item: bytes, position: int) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise errors.broken(f"Element {position} of input 'text' is no UTF-8.") from None


def _detections(answers: Sequence[Detections]) -> list[Tensor]:
    found = [one for answer in answers for one in answer.detections]
    boxes = np.array([one.box for one in found], dtype=np.float32).reshape(-1, 4)
    return [
        Tensor("boxes", "FP32", boxes.shape, boxes.ravel()),
        Tensor("scores", "FP32", (len(found),), np.array([one.score for one in found], dtype=np.float32)),
        Tensor("labels", "BYTES", (len(found),), [one.label.encode() for one in found]),
        Tensor(
            "num_detections",
            "INT32",
            (len(answers),),
            np.array([len(answer.detections) for answer in answers], dtype=np.int32),
        ),
    ]


def _classifications(answers: Sequence[Classification]) -> list[Tensor]:
    classes = list(answers[0].details)
    scores = np.array([[one.details[name] for name in classes] for one in answers], dtype=np.float32)
    return [
        Tensor("label", "BYTES", (len(answers),), [one.label.encode() for one in answers]),
        Tensor("score", "FP32", (len(answers),), np.array([one.score for one in answers], dtype=np.float32)),
        Tensor("scores", "FP32", scores.shape, scores.ravel(), {"labels": ",".join(classes)}),
    ]
