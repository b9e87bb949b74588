"""Evaluate a version beside the one that serves: both answer in sandboxes, this process asks, measures and compares.

Whatever runs where a version runs can change what that process says, so nothing that it says of itself counts: it gets inputs
without labels, and what is concluded from its answers is concluded here. The two never see each other's answers, and each may
read its own folder only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError
from model_sync.evaluation.answering import AnsweringVersion, Clock, Sandboxes, TooLongError, VersionFolder, answering
from model_sync.evaluation.golden_samples import golden_samples
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.sandbox.output import printable

ALONE = 24  # inputs, about, that are asked for one at a time
WARM_UP = 2  # of them, whose time does not count
BATCH = {"yolo": 8, "kcbert": 64, "sentiment": 64}  # as the gateway's batchers make them


def evaluate(
    candidate: VersionFolder,
    serving: VersionFolder,
    reference: ReferenceSet,
    sandboxes: Sandboxes,
    remembered: tuple[Answer, ...] | None,
) -> EvaluationReport:
    """What the candidate does beside what serves, whose answers to the reference set may be `remembered`.

    One after the other is loaded, and one at a time answers: an import is to leave the cores to those who serve. Raises
    RejectedError, ImportEnvironmentError, ImportCrashedError, SyncCancelledError.
    """
    clock = Clock.start(sandboxes.limits.seconds, sandboxes.stopping)
    batch, everything = BATCH[candidate.manifest.model], range(len(reference.truth))
    stride = max(1, len(everything) // ALONE)
    positions = everything[stride // 2 :: stride]
    with contextlib.ExitStack() as stack:
        with _what_serves():
            theirs = stack.enter_context(answering(serving, "serving", sandboxes, clock))
        mine = stack.enter_context(answering(candidate, "candidate", sandboxes, clock))
        alone, milliseconds = _side_by_side(mine, theirs, reference, positions)  # first: what was asked might be remembered
        if remembered is None:
            with _what_serves():
                remembered = _ask(theirs, reference, everything, batch)
        return EvaluationReport(
            golden=tuple(_golden(mine, candidate)),
            reference=_ask(mine, reference, everything, batch),
            serving=remembered,
            positions=positions,
            alone=alone,
            milliseconds=milliseconds,
        )


@contextlib.contextmanager
def _what_serves() -> Iterator[None]:
    """Nothing that goes wrong within is the candidate's doing; but that the evaluation takes too long may be."""
    try:
        yield
    except TooLongError:
        raise
    except (RejectedError, ImportCrashedError) as error:
        raise ImportEnvironmentError(f"what serves cannot be evaluated: {error}") from error


def _ask(version: AnsweringVersion, reference: ReferenceSet, positions: range, batch: int) -> tuple[Answer, ...]:
    """An answer per input, in order."""
    answers: list[Answer] = []
    for start in range(0, len(positions), batch):
        answers += version.ask(reference.inputs(positions[start : start + batch]))[0]
    return tuple(answers)


def _golden(version: AnsweringVersion, candidate: VersionFolder) -> Iterator[str | None]:
    """How the answers to golden samples differ from the original's."""
    for one, differs in golden_samples(candidate.manifest.model, candidate.folder):
        [answer], _ = version.ask([one])
        difference = differs(answer)
        yield difference and printable(difference)


def _side_by_side(
    candidate: AnsweringVersion, serving: AnsweringVersion, reference: ReferenceSet, positions: range
) -> tuple[tuple[Answer, ...], tuple[tuple[float, float], ...]]:
    """The candidate's answers, and the milliseconds of both, for inputs that neither has seen; they take turns at being first.

    Both take the same way: what the frames cost (0.04 ms for an empty one, little more for a text) is in both figures, as it is
    in what a client waits for. So only for a model that takes less than that itself, which none does that makes tensors of a
    text, twice as long would be less than twice here; and no client could tell.
    """
    answers, pairs = [], []
    for turn, position in enumerate(positions):
        asked = reference.inputs([position])
        took = [0.0, 0.0]
        for which in (0, 1)[:: 1 if turn % 2 else -1]:
            if which == 0:
                [answer], took[0] = candidate.ask(asked)
                answers.append(answer)
            else:
                with _what_serves():
                    took[1] = serving.ask(asked)[1]
        pairs.append((took[0], took[1]))
    return tuple(answers), tuple(pairs[WARM_UP:])
