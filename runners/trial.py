"""Try a version as it will be served: this process' interpreter and code are the data plane's.

python -m runners.trial MODEL FOLDER --serving FOLDER --reference FOLDER --output FILE [--serving-too]

Writes an `artifacts.trial.Trial` as JSON. A version that cannot be loaded or answers an input with a failure ends it with exit
code 3 and `{"refused": ...}` instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from artifacts.answers import Answers, Failure
from artifacts.golden import read_golden_photos, read_golden_texts
from artifacts.inputs import Photo
from artifacts.manifest import MODELS
from artifacts.reference import read_reference_photos, read_reference_texts
from artifacts.trial import Trial
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo

REFUSED = 3  # exit code
SINGLES = 24  # inputs that are asked for one at a time
TIMED = 5  # inputs whose answers are timed
REPEATS = 7
BATCH = {"yolo": 8, "kcbert": 64, "sentiment": 64}  # as the gateway's batchers make them

InputT = TypeVar("InputT")


@dataclass(frozen=True)
class Asked:
    """What the versions are asked: inputs with golden samples, and the reference set."""

    golden: Sequence[tuple[Any, Callable[[Any], str | None]]]
    reference: Sequence[Any]


class RefusedError(Exception):
    """The version is not fit to serve. The message says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--serving", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--serving-too", action="store_true", help="have the serving version answer the reference set")
    given = parser.parse_args()
    try:
        trial = try_version(given.model, given.folder, given.serving, given.reference, serving_too=given.serving_too)
    except Exception as error:  # a pyfunc is other people's code: whatever it raises, it is not served
        reason = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
        given.output.write_text(json.dumps({"refused": reason}), encoding="utf-8")
        sys.exit(REFUSED)
    given.output.write_text(trial.model_dump_json(), encoding="utf-8")


def try_version(model: str, folder: Path, serving: Path, reference: Path, *, serving_too: bool) -> Trial:
    """Have the version in `folder` answer its golden samples and the reference set, and time it beside `serving`."""
    opened: dict[str, Callable[[Path], Any]] = {"yolo": Yolo, "kcbert": KcBert, "sentiment": Sentiment}
    candidate, other = opened[model](folder), opened[model](serving)
    asked = _photos(folder, reference) if model == "yolo" else _texts(folder, reference)
    stride = max(1, len(asked.reference) // SINGLES)
    singles = asked.reference[::stride]
    return Trial(
        golden=tuple(differs(_answers(candidate, [one], 1)[0]) for one, differs in asked.golden),
        reference=tuple(_answers(candidate, asked.reference, BATCH[model])),
        serving=tuple(_answers(other, asked.reference, BATCH[model])) if serving_too else (),
        single=tuple(_answers(candidate, singles, 1)),
        stride=stride,
        milliseconds=_side_by_side(candidate, other, singles),
    )


def _texts(folder: Path, reference: Path) -> Asked:
    golden = [(sample.text, sample.differs) for sample in read_golden_texts(folder)]
    return Asked(golden, [sample.text for sample in read_reference_texts(reference)])


def _photos(folder: Path, reference: Path) -> Asked:
    golden = [
        (Photo(data=(folder / sample.image).read_bytes(), confidence=sample.confidence), sample.differs)
        for sample in read_golden_photos(folder)
    ]
    return Asked(golden, [Photo(data=(reference / sample.image).read_bytes()) for sample in read_reference_photos(reference)])


def _answers(version: Any, inputs: Sequence[InputT], batch: int) -> list[Any]:
    """An answer per input, in order. Raises RefusedError when one fails."""
    results: list[Any] = []
    for start in range(0, len(inputs), batch):
        answers: Answers[Any] = version.predict(inputs[start : start + batch])
        results += answers.results
    if failed := [one for one in results if isinstance(one, Failure)]:
        raise RefusedError(f"{len(failed)} of {len(results)} inputs failed: {failed[0].message}")
    return results


def _side_by_side(candidate: Any, other: Any, inputs: Sequence[Any]) -> tuple[float, float]:
    """The milliseconds of each for one input: of several calls the fastest, as a mean over some inputs.

    This process has the lowest priority, and what else the machine does may hold up any call, but hardly all of them. They take
    turns at being first.
    """
    fastest = [[float("inf")] * TIMED, [float("inf")] * TIMED]
    for turn in range(REPEATS):
        for number, one in enumerate(inputs[:TIMED]):
            for which, version in ((0, candidate), (1, other))[:: 1 if turn % 2 else -1]:
                started = time.perf_counter()
                version.predict([one])
                fastest[which][number] = min(fastest[which][number], 1000 * (time.perf_counter() - started))
    mine, theirs = (statistics.mean(times[: len(inputs)]) for times in fastest)
    return mine, theirs


if __name__ == "__main__":
    main()
