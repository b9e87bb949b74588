"""Evaluates a candidate against the serving version: both answer in sandboxes, this process sends inputs and measures.

Third-party code can change whatever its process reports, so no report of that process counts. It receives inputs without
labels, and this process draws the conclusions from its answers. Neither version can read the other's answers or folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bunriwiki.artifacts.models import SPECS
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError
from model_sync.evaluation.answering import (
    AnsweringVersion,
    Deadline,
    EvaluationTimeoutError,
    SandboxSettings,
    VersionFolder,
    answering,
)
from model_sync.evaluation.golden_samples import golden_samples
from model_sync.evaluation.latency import Pairs
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.sandbox.output import printable

SINGLE_INPUTS = 24  # inputs, approximately, that are sent one at a time in a round
ROUNDS = 5  # at most, until enough latencies are known
WARM_UP = 2  # inputs of the first round, whose latency is discarded


def evaluate(
    candidate: VersionFolder,
    serving: VersionFolder,
    reference: ReferenceSet,
    settings: SandboxSettings,
    *,
    remembered: tuple[Answer, ...] | None,
    is_decided: Callable[[Pairs], bool],
) -> EvaluationReport:
    """Evaluate `candidate` against `serving`, whose answers to the reference set may be known already (`remembered`).

    Latencies are measured in rounds until `is_decided` says that they are enough, at most in ROUNDS. The versions are loaded
    one after the other and answer one at a time, which leaves CPU cores to the data plane. Raises RejectedError and
    ImportCrashedError for what the candidate does, UndecidedError, ImportEnvironmentError, SyncCancelledError.
    """
    deadline = Deadline.start(settings.limits.seconds, settings.stopping)
    batch, everything = SPECS[candidate.manifest.model].max_batch_size, range(len(reference.truth))
    with contextlib.ExitStack() as stack:
        with _failures_of_serving():
            theirs = stack.enter_context(answering(serving, "serving", settings, deadline))
        mine = stack.enter_context(answering(candidate, "candidate", settings, deadline))
        # First of all, because a version may cache its answers.
        positions, alone, milliseconds = _side_by_side(mine, theirs, reference, is_decided)
        if remembered is None:
            with _failures_of_serving():
                remembered = _in_batches(theirs, reference, everything, batch)
        return EvaluationReport(
            golden=tuple(_golden(mine, candidate)),
            reference=_in_batches(mine, reference, everything, batch),
            serving=remembered,
            positions=positions,
            alone=alone,
            milliseconds=milliseconds,
        )


@contextlib.contextmanager
def _failures_of_serving() -> Iterator[None]:
    """A failure of the serving version is not the candidate's fault; a timeout of the whole evaluation may be."""
    try:
        yield
    except EvaluationTimeoutError:
        raise
    except (RejectedError, ImportCrashedError) as error:
        raise ImportEnvironmentError(f"the serving version cannot be evaluated: {error}") from error


def _in_batches(version: AnsweringVersion, reference: ReferenceSet, positions: range, batch: int) -> tuple[Answer, ...]:
    """An answer per input, in order."""
    answers: list[Answer] = []
    for start in range(0, len(positions), batch):
        answers += version.answer(reference.inputs(positions[start : start + batch]))[0]
    return tuple(answers)


def _golden(version: AnsweringVersion, candidate: VersionFolder) -> Iterator[str | None]:
    """For each golden sample, how the answer differs from the original's; None if it agrees."""
    for given, differs in golden_samples(candidate.manifest.model, candidate.folder):
        [answer], _ = version.answer([given])
        difference = differs(answer)
        yield difference and printable(difference)


def _rounds(number: int) -> Iterator[range]:
    """The positions of the inputs of each round, out of so many; no input is in two rounds."""
    stride = max(1, number // SINGLE_INPUTS)
    for offset in dict.fromkeys((stride // 2 + round_ * stride // ROUNDS) % stride for round_ in range(ROUNDS)):
        yield range(offset, number, stride)


def _side_by_side(
    candidate: AnsweringVersion, serving: AnsweringVersion, reference: ReferenceSet, is_decided: Callable[[Pairs], bool]
) -> tuple[tuple[int, ...], tuple[Answer, ...], Pairs]:
    """The positions of inputs that neither version has seen yet, the candidate's answers, and the milliseconds of both.

    The versions alternate in answering first. The cost of the frames (0.04 ms for an empty frame, little more for a text) is in
    both latencies, as it is in a client's. It hides a ratio of 2 only for a model that takes less time than that; no model that
    tokenizes a text does, and no client could notice the difference.
    """
    positions: list[int] = []
    answers: list[Answer] = []
    pairs: list[tuple[float, float]] = []
    for round_ in _rounds(len(reference.truth)):
        for position in round_:
            inputs = reference.inputs([position])
            took = [0.0, 0.0]
            for which in (0, 1)[:: 1 if len(positions) % 2 else -1]:
                if which == 0:
                    [answer], took[0] = candidate.answer(inputs)
                    answers.append(answer)
                else:
                    with _failures_of_serving():
                        took[1] = serving.answer(inputs)[1]
            positions.append(position)
            pairs.append((took[0], took[1]))
        if is_decided(pairs[WARM_UP:]):
            break
    return tuple(positions), tuple(answers), tuple(pairs[WARM_UP:])
