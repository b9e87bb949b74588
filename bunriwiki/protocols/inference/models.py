"""The tensors of each model: its inputs as tensors, and its answers as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import MAX_CHARACTERS, THRESHOLDS, Photo
from bunriwiki.artifacts.models import KCBERT, SENTIMENT, YOLO, ModelSpec
from bunriwiki.protocols.inference.tensors import Parameter, Tensor, TensorSpec, elements
from bunriwiki.web import problems

MAX_UTF8_BYTES = 4 * MAX_CHARACTERS  # of a text
CLIENT_PARAMETERS = {"timeout", "priority", "triton_enable_empty_final_response"}  # sent by Triton's clients to any model

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTensors(Generic[InputT, AnswerT]):
    """The tensors of the model `spec`.

    A request has one tensor, `input`, of datatype BYTES and shape [n] or [n, 1], with one element per input; `read` gives the
    inputs for its elements and the parameters of the request, of which it knows those named in `parameters`. `outputs` gives
    the specs of the output tensors of a version with so many classes, and `write` the tensors for at least one answer, in that
    order. `read` raises RequestError.
    """

    spec: ModelSpec[InputT, AnswerT]
    input: TensorSpec
    outputs: Callable[[int], tuple[TensorSpec, ...]]
    read: Callable[[list[bytes], Mapping[str, Parameter]], list[InputT]]
    write: Callable[[Sequence[AnswerT]], list[Tensor]]
    parameters: frozenset[str] = field(default=frozenset())

    def read_request(self, tensors: Sequence[Tensor], parameters: Mapping[str, Parameter]) -> list[InputT]:
        """The inputs of a request, at least one. Raises RequestError."""
        items = self._elements(tensors)
        for name in parameters.keys() - self.parameters - CLIENT_PARAMETERS:
            raise problems.broken(f"The parameter {name[:40]!r} is not known here. Leave it out.")
        return self.read(items, parameters)

    def _elements(self, tensors: Sequence[Tensor]) -> list[bytes]:
        spec, names = self.input, [tensor.name for tensor in tensors]
        if names != [spec.name]:
            raise problems.broken(
                f"The call has the inputs {[name[:40] for name in names[:5]]}; the model takes one, {spec.name!r}."
            )
        [tensor] = tensors
        if tensor.datatype != spec.datatype:
            raise problems.broken(
                f"Input {spec.name!r} has the datatype {tensor.datatype[:20]!r}; the model takes {spec.datatype}."
            )
        if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
            raise problems.broken(f"Input {spec.name!r} has the shape {list(tensor.shape[:5])}; the model takes [n] or [n, 1].")
        items = tensor.data if isinstance(tensor.data, list) else []
        if not items or len(items) != elements(tensor.name, tensor.shape):
            raise problems.broken(
                f"Input {spec.name!r} has {len(items)} elements, which does not match its shape {list(tensor.shape)}."
            )
        return items


def read_photos(items: list[bytes], parameters: Mapping[str, Parameter]) -> list[Photo]:
    """A photo per element, with the thresholds among the parameters. Raises RequestError."""
    thresholds = {name: _threshold(name, parameters.get(name, default)) for name, default in THRESHOLDS.items()}
    return [Photo(data=item, **thresholds) for item in items]


def read_texts(items: list[bytes], _: Mapping[str, Parameter]) -> list[str]:
    """A text per element, from UTF-8. Raises RequestError.

    Each element is removed from `items` when its text is made, which may take four times as much memory.
    """
    texts = []
    for position, item in enumerate(items):
        texts.append(_text(item, position))
        items[position] = b""
    return texts


def detection_outputs(_: int) -> tuple[TensorSpec, ...]:
    """The boxes of all photos, one after the other, and how many of them belong to each photo."""
    return (
        TensorSpec("boxes", "FP32", (-1, 4)),
        TensorSpec("scores", "FP32", (-1,)),
        TensorSpec("labels", "BYTES", (-1,)),
        TensorSpec("num_detections", "INT32", (-1,)),
        TensorSpec("uncertain", "BOOL", (-1,)),  # last: a client may read the others by their position
    )


def write_detections(answers: Sequence[Detections]) -> list[Tensor]:
    """The tensors of `detection_outputs`."""
    found = [detection for answer in answers for detection in answer.detections]
    boxes = np.array([detection.box for detection in found], dtype=np.float32).reshape(-1, 4)
    scores = np.array([detection.score for detection in found], dtype=np.float32)
    counts = np.array([len(answer.detections) for answer in answers], dtype=np.int32)
    uncertain = np.array([detection.uncertain for detection in found], dtype=np.bool_)
    return [
        Tensor("boxes", "FP32", boxes.shape, boxes.ravel()),
        Tensor("scores", "FP32", scores.shape, scores),
        Tensor("labels", "BYTES", (len(found),), [detection.label.encode() for detection in found]),
        Tensor("num_detections", "INT32", counts.shape, counts),
        Tensor("uncertain", "BOOL", uncertain.shape, uncertain),
    ]


def classification_outputs(classes: int) -> tuple[TensorSpec, ...]:
    """The winning class of each text, its score, and the scores of all classes."""
    return (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("scores", "FP32", (-1, classes)),
    )


def write_classifications(answers: Sequence[Classification]) -> list[Tensor]:
    """The tensors of `classification_outputs`. The parameter `labels` of `scores` names the classes, in order."""
    classes = list(answers[0].details)
    score = np.array([answer.score for answer in answers], dtype=np.float32)
    scores = np.array([[answer.details[name] for name in classes] for answer in answers], dtype=np.float32)
    return [
        Tensor("label", "BYTES", (len(answers),), [answer.label.encode() for answer in answers]),
        Tensor("score", "FP32", score.shape, score),
        Tensor("scores", "FP32", scores.shape, scores.ravel(), {"labels": ",".join(classes)}),
    ]


def text_classifier(spec: ModelSpec[str, Classification]) -> ModelTensors[str, Classification]:
    """The tensors of a model that classifies texts."""
    return ModelTensors(
        spec=spec,
        input=TensorSpec("text", "BYTES", (-1,)),
        outputs=classification_outputs,
        read=read_texts,
        write=write_classifications,
    )


YOLO_TENSORS = ModelTensors(
    spec=YOLO,
    input=TensorSpec("image", "BYTES", (-1,)),
    outputs=detection_outputs,
    read=read_photos,
    write=write_detections,
    parameters=frozenset(THRESHOLDS),
)

MODEL_TENSORS: Sequence[ModelTensors[Any, Any]] = (YOLO_TENSORS, text_classifier(KCBERT), text_classifier(SENTIMENT))


def _threshold(name: str, value: Parameter) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise problems.broken(f"The parameter {name!r} must be a number from 0 to 1.")
    return float(value)


def _text(item: bytes, position: int) -> str:
    if len(item) > MAX_UTF8_BYTES:  # decoded, it could take four times as much
        raise problems.too_large(f"Element {position} of input 'text' has more than {MAX_CHARACTERS} characters. Shorten it.")
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise problems.broken(f"Element {position} of input 'text' is no UTF-8.") from None
