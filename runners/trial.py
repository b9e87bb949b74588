"""Try a version as it will be served: this process' interpreter and code are the data plane's.

python -m runners.trial MODEL FOLDER --serving FOLDER --reference FOLDER --output FILE [--serving-too]

Writes an `artifacts.trial.Trial` as JSON into FILE. Says on standard output (`artifacts/programs.py`) why a version is refused:
it cannot be loaded, or does not answer an input; and when the serving version or the reference set is the one at fault.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from artifacts.answers import Answers, Detections, Failure
from artifacts.golden import read_golden_photos, read_golden_texts
from artifacts.inputs import Photo
from artifacts.manifest import MODELS
from artifacts.programs import REFUSED, UNFIT, Teller
from artifacts.reference import read_reference_photos, read_reference_texts
from artifacts.trial import Trial
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo

SINGLES = 24  # inputs that are asked for one at a time
PAIRS = 24  # inputs whose answers are timed
WARM_UP = 2  # of them, which do not count
BATCH = {"yolo": 8, "kcbert": 64, "sentiment": 64}  # as the gateway's batchers make them
OPENED: dict[str, Callable[[Path], Any]] = {"yolo": Yolo, "kcbert": KcBert, "sentiment": Sentiment}

InputT = TypeVar("InputT")


class RefusedError(Exception):
    """The version is not fit to serve. The message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--serving", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--serving-too", action="store_true", help="have the serving version answer the reference set")
    given = parser.parse_args()
    teller = Teller()
    try:
        other = Other.open(given.model, given.serving, given.reference, answers=given.serving_too)
    except Exception as error:
        teller.tell(unfit=f"what serves cannot be tried: {error}")
        return UNFIT
    try:
        trial = try_version(given.model, given.folder, other)
    except Exception as error:  # a pyfunc is other people's code: whatever it raises, it is not served
        traceback.print_exc()
        teller.tell(refused=str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}")
        return REFUSED
    try:
        given.output.write_text(trial.model_dump_json(), encoding="utf-8")
    except OSError as error:
        teller.tell(unfit=str(error))
        return UNFIT
    return 0


@dataclass(frozen=True)
class Other:
    """What a version is tried beside: the one that serves, with its answers where they are wanted, and the reference set."""

    version: Any
    reference: list[Any]
    answers: tuple[Any, ...]

    @classmethod
    def open(cls, model: str, serving: Path, reference: Path, *, answers: bool) -> Other:
        version = OPENED[model](serving)
        asked: list[Any]
        if model == "yolo":
            asked = [Photo(data=(reference / sample.image).read_bytes()) for sample in read_reference_photos(reference)]
        else:
            asked = [sample.text for sample in read_reference_texts(reference)]
        return cls(version, asked, tuple(_answers(version, asked, BATCH[model])) if answers else ())


def try_version(model: str, folder: Path, other: Other) -> Trial:
    """Time the version in `folder` beside the other, and have it answer its golden samples and the reference set."""
    candidate = OPENED[model](folder)
    stride = max(1, len(other.reference) // SINGLES)
    # First: what was asked before might be remembered.
    milliseconds = _side_by_side(candidate, other.version, other.reference[stride // 2 :: stride][:PAIRS])
    return Trial(
        golden=tuple(differs(_answers(candidate, [one], 1)[0]) for one, differs in _golden(model, folder)),
        reference=tuple(_answers(candidate, other.reference, BATCH[model])),
        serving=other.answers,
        single=tuple(_answers(candidate, other.reference[::stride], 1)),
        stride=stride,
        milliseconds=milliseconds,
    )


def _golden(model: str, folder: Path) -> Sequence[tuple[Any, Callable[[Any], str | None]]]:
    """Inputs with golden samples, each with what says how an answer differs."""
    if model != "yolo":
        return [(sample.text, sample.differs) for sample in read_golden_texts(folder)]
    return [
        (Photo(data=(folder / sample.image).read_bytes(), confidence=sample.confidence), sample.differs)
        for sample in read_golden_photos(folder)
    ]


def _answers(version: Any, inputs: Sequence[InputT], batch: int) -> list[Any]:
    """An answer per input, in order. Raises RefusedError when one fails."""
    results: list[Any] = []
    for start in range(0, len(inputs), batch):
        answers: Answers[Any] = version.predict(inputs[start : start + batch])
        results += answers.results
    if failed := [one for one in results if isinstance(one, Failure)]:
        raise RefusedError(f"{len(failed)} of {len(results)} inputs failed: {failed[0].message}")
    if not all(math.isfinite(score) for one in results for score in _scores(one)):
        raise RefusedError("an answer has a score that is no number")
    return results


def _scores(answer: Any) -> list[float]:
    return [box.score for box in answer.detections] if isinstance(answer, Detections) else list(answer.details.values())


def _side_by_side(candidate: Any, other: Any, inputs: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    """The milliseconds of each for the same input, which neither has seen; they take turns at being first."""
    pairs = []
    for turn, one in enumerate(inputs):
        took = [0.0, 0.0]
        for which, version in ((0, candidate), (1, other))[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            version.predict([one])
            took[which] = 1000 * (time.perf_counter() - started)
        pairs.append((took[0], took[1]))
    return tuple(pairs[WARM_UP:])


if __name__ == "__main__":
    sys.exit(main())
