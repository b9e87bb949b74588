"""Evaluations of real versions in real sandboxes, and how the gates judge what third-party code may try."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.golden import read_golden_texts, write_golden
from bunriwiki.artifacts.manifest import MODELS as NAMES
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.artifacts.reference import REFERENCE, ReferencePhoto
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.tiny import LABELS, scores, tiny
from bunriwiki.testing.tiny import reference as write_reference
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError
from model_sync.evaluation import evaluate as evaluation
from model_sync.evaluation.answering import EvaluationTimeoutError, SandboxSettings, VersionFolder
from model_sync.evaluation.evaluate import evaluate
from model_sync.evaluation.gates import Finding, Thresholds, is_latency_decided, judge_evaluation
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.sandbox.run import Limits

pytestmark = pytest.mark.slow

LIMITS = Limits(memory=2**31, seconds=300, threads=1)
# Of the latency: more than what other work on the machine makes of a tiny version, and less than a tenth of a second is.
THRESHOLDS = Thresholds(agreement=1, quality=2, batch=1e-3, latency=5, labels="same")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> ReferenceSet:
    return ReferenceSet.read("sentiment", write_reference(tmp_path / "reference"))


def run(
    candidate: VersionFolder,
    serving: VersionFolder,
    reference: ReferenceSet,
    scratch: Path,
    *,
    remembered: tuple[Answer, ...] | None = None,
) -> EvaluationReport:
    settings = SandboxSettings(Path(sys.executable), scratch, LIMITS, threading.Event())
    decided = partial(is_latency_decided, thresholds=THRESHOLDS, first=False)
    return evaluate(candidate, serving, reference, settings, remembered=remembered, is_decided=decided)


def judged(report: EvaluationReport, reference: ReferenceSet) -> dict[str, Finding]:
    return {found.gate: found for found in judge_evaluation(report, reference.truth, THRESHOLDS, first=False)}


@pytest.mark.parametrize("model", NAMES)
def test_a_bundled_version_is_evaluated_against_itself(model: str, tmp_path: Path, scratch: Path) -> None:
    lines = (MODELS / model / REFERENCE).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / REFERENCE).write_text("".join(lines[:48]), encoding="utf-8")
    (tmp_path / "reference").symlink_to(MODELS / model / "reference")
    version, reference = VersionFolder(MODELS / model, Manifest.read(MODELS / model)), ReferenceSet.read(model, tmp_path)
    report = run(version, version, reference, scratch)
    assert len(report.golden) >= 64
    assert set(report.golden) == {None}
    assert len(report.reference) == 48
    assert report.serving == report.reference
    assert report.positions[:24] == tuple(range(1, 48, 2))
    assert len(report.alone) == len(report.positions)
    assert len(report.milliseconds) == len(report.positions) - 2
    assert all(mine > 0 and theirs > 0 for mine, theirs in report.milliseconds)
    found = judged(report, reference)
    assert all(found[gate].passed for gate in ("agreement", "quality", "batches"))


@pytest.mark.parametrize(
    ("act", "failed"),
    [
        ("if len(texts) == 1: time.sleep(0.1)", {"latency"}),
        ("if CALLS <= 6: time.sleep(0.5)", set()),  # within the warm-up, which does not count
        ("if len(texts) == 1: answer.iloc[:] = [0.8, 0.1, 0.1]", {"agreement", "batches"}),
        ("answer.iloc[:] = [0.8, 0.1, 0.1]", {"agreement", "quality"}),
    ],
    ids=["slow", "slow at first", "wrong alone, which is fast", "wrong"],
)
def test_the_gates_notice_what_a_version_does(
    tmp_path: Path, scratch: Path, labelled: ReferenceSet, act: str, failed: set[str]
) -> None:
    serving, candidate = tiny(tmp_path / "serving"), tiny(tmp_path / "candidate", act=act)
    report = run(candidate, serving, labelled, scratch)
    assert {gate for gate, found in judged(report, labelled).items() if not found.passed} == failed


TABLE = """
import json
table = {}
for file in (%r, %r):
    try:
        for line in open(file):
            sample = json.loads(line)
            table[sample["text"]] = sample.get("details") or {label: float(label == sample["label"]) for label in LABELS}
    except PermissionError:
        pass
answer = pd.DataFrame([table.get(text, dict(zip(LABELS, [0.8, 0.1, 0.1]))) for text in texts], columns=LABELS)
"""


def test_a_version_can_look_up_the_answers_to_its_golden_samples_only(
    tmp_path: Path, scratch: Path, labelled: ReferenceSet
) -> None:
    files = (str(tmp_path / "candidate" / "golden.jsonl"), str(labelled.folder / REFERENCE))
    serving, candidate = tiny(tmp_path / "serving"), tiny(tmp_path / "candidate", act=TABLE % files)
    found = judged(run(candidate, serving, labelled, scratch), labelled)
    assert found["agreement"].passed
    assert not found["quality"].passed


class Fake:
    """Answers as `tiny` does, or raises the error in `fails` at the call with that number."""

    def __init__(self) -> None:
        self.received: list[list[Any]] = []
        self.fails: dict[int, Exception] = {}

    def answer(self, inputs: list[Any]) -> tuple[list[Answer], float]:
        if error := self.fails.get(len(self.received)):
            raise error
        self.received.append(inputs)
        return [Classification(max(details, key=details.__getitem__), 0.8, details) for details in map(scores, inputs)], 1.0


class Fakes:
    def __init__(self, folder: Path) -> None:
        self.version = tiny(folder)
        self.candidate, self.serving = Fake(), Fake()
        self.starts: dict[str, Exception] = {}

    @contextmanager
    def answering(self, version: VersionFolder, name: str, *_: object) -> Iterator[Fake]:
        if error := self.starts.get(name):
            raise error
        yield {"candidate": self.candidate, "serving": self.serving}[name]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes(tmp_path / "version")
    monkeypatch.setattr(evaluation, "answering", fakes.answering)
    return fakes


def test_each_version_receives_its_inputs_once(fakes: Fakes, scratch: Path, labelled: ReferenceSet) -> None:
    report = run(fakes.version, fakes.version, labelled, scratch)
    alone = [[labelled.truth[position].text] for position in report.positions]  # type: ignore[union-attr]
    everything = [[sample.text for sample in labelled.truth]]  # type: ignore[union-attr]
    golden = [[sample.text] for sample in read_golden_texts(fakes.version.folder)]
    assert fakes.serving.received == alone + everything
    assert fakes.candidate.received == alone + golden + everything
    fakes.serving.received.clear()
    known = report.serving[::-1]
    assert run(fakes.version, fakes.version, labelled, scratch, remembered=known).serving == known
    assert fakes.serving.received == alone


def test_the_golden_samples_that_differ_are_reported(fakes: Fakes, scratch: Path, labelled: ReferenceSet) -> None:
    samples = read_golden_texts(fakes.version.folder)
    samples[3] = samples[3].model_copy(update={"details": dict.fromkeys(LABELS, 1 / 3)})
    write_golden(fakes.version.folder, samples)
    report = run(fakes.version, fakes.version, labelled, scratch)
    assert [number for number, difference in enumerate(report.golden) if difference] == [3]


ERRORS = [
    RejectedError("3 answers to 4 inputs"),
    ImportCrashedError("the import died"),
    ImportEnvironmentError("the disk is full"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", [None, 0, 20, 30])
def test_a_failure_of_the_serving_version_is_an_environment_error(
    fakes: Fakes, scratch: Path, labelled: ReferenceSet, error: Exception, call: int | None
) -> None:
    if call is None:
        fakes.starts["serving"] = error
    else:
        fakes.serving.fails[call] = error
    with pytest.raises(ImportEnvironmentError, match=str(error)):
        run(fakes.version, fakes.version, labelled, scratch)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", [None, 0, 29, 32, 35])
def test_a_failure_of_the_candidate_is_raised(
    fakes: Fakes, scratch: Path, labelled: ReferenceSet, error: Exception, call: int | None
) -> None:
    if call is None:
        fakes.starts["candidate"] = error
    else:
        fakes.candidate.fails[call] = error
    with pytest.raises(type(error), match=str(error)):
        run(fakes.version, fakes.version, labelled, scratch)


def test_a_timeout_of_the_evaluation_is_a_crash_whichever_version_answers(
    fakes: Fakes, scratch: Path, labelled: ReferenceSet
) -> None:
    fakes.serving.fails[7] = EvaluationTimeoutError("the import did not finish within 600 s")
    with pytest.raises(ImportCrashedError, match="did not finish within 600 s"):
        run(fakes.version, fakes.version, labelled, scratch)


def test_a_missing_photo_of_the_reference_set_is_an_environment_error(tmp_path: Path) -> None:
    gone = ReferenceSet(tmp_path, (ReferencePhoto(image="gone.jpg", objects=()),))
    with pytest.raises(ImportEnvironmentError, match="the reference set cannot be read"):
        gone.inputs(range(1))
