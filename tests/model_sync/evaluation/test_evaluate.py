"""Evaluations: real versions in real sandboxes, and what the gates make of what other people's code may try."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.golden import read_golden_texts, write_golden
from bunriwiki.artifacts.manifest import MODELS as NAMES
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.artifacts.reference import REFERENCE, ReferencePhoto
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError
from model_sync.evaluation import evaluate as evaluation
from model_sync.evaluation.answering import Sandboxes, TooLongError, VersionFolder
from model_sync.evaluation.evaluate import evaluate
from model_sync.evaluation.gates import Finding, Thresholds, judge_evaluation
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.sandbox.run import Limits
from tests.conftest import MODELS
from tests.tiny import LABELS, reference, scores, tiny

LIMITS = Limits(memory=2**31, seconds=300, threads=1)
THRESHOLDS = Thresholds(agreement=1, quality=2, batch=1e-3, latency=2, labels="same")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> ReferenceSet:
    return ReferenceSet.read("sentiment", reference(tmp_path / "reference"))


def run(
    candidate: VersionFolder,
    serving: VersionFolder,
    asked: ReferenceSet,
    scratch: Path,
    *,
    remembered: tuple[Answer, ...] | None = None,
) -> EvaluationReport:
    return evaluate(candidate, serving, asked, Sandboxes(Path(sys.executable), scratch, LIMITS, threading.Event()), remembered)


def judged(report: EvaluationReport, asked: ReferenceSet) -> dict[str, Finding]:
    return {found.gate: found for found in judge_evaluation(report, asked.truth, THRESHOLDS)}


@pytest.mark.parametrize("model", NAMES)
def test_a_shipped_version_beside_itself(model: str, tmp_path: Path, scratch: Path) -> None:
    lines = (MODELS / model / REFERENCE).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / REFERENCE).write_text("".join(lines[:48]), encoding="utf-8")
    (tmp_path / "reference").symlink_to(MODELS / model / "reference")
    version, asked = VersionFolder(MODELS / model, Manifest.read(MODELS / model)), ReferenceSet.read(model, tmp_path)
    report = run(version, version, asked, scratch)
    assert len(report.golden) >= 64
    assert set(report.golden) == {None}
    assert len(report.reference) == 48
    assert report.serving == report.reference
    assert (report.positions, len(report.alone)) == (range(1, 48, 2), 24)
    assert len(report.milliseconds) == 22
    assert all(mine > 0 and theirs > 0 for mine, theirs in report.milliseconds)
    found = judged(report, asked)
    assert all(found[gate].passed for gate in ("agreement", "quality", "batches"))


@pytest.mark.parametrize(
    ("act", "failed"),
    [
        ("if len(texts) == 1: time.sleep(0.1)", {"latency"}),
        ("if CALLS <= 6: time.sleep(0.5)", set()),  # while it is still warm-up
        ("if len(texts) == 1: answer.iloc[:] = [0.8, 0.1, 0.1]", {"agreement", "batches"}),
        ("answer.iloc[:] = [0.8, 0.1, 0.1]", {"agreement", "quality"}),
    ],
    ids=["slow", "slow at first", "wrong alone, which is fast", "wrong"],
)
def test_what_a_version_tries_is_seen(
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


def test_answers_from_a_table_are_right_for_its_own_golden_samples_only(
    tmp_path: Path, scratch: Path, labelled: ReferenceSet
) -> None:
    files = (str(tmp_path / "candidate" / "golden.jsonl"), str(labelled.folder / REFERENCE))
    serving, candidate = tiny(tmp_path / "serving"), tiny(tmp_path / "candidate", act=TABLE % files)
    found = judged(run(candidate, serving, labelled, scratch), labelled)
    assert found["agreement"].passed
    assert not found["quality"].passed


class Fake:
    """Answers as `tiny` does, or raises what `fails` has at the call of that number."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked: list[list[Any]] = []
        self.fails: dict[int, Exception] = {}

    def ask(self, inputs: list[Any]) -> tuple[list[Answer], float]:
        if error := self.fails.get(len(self.asked)):
            raise error
        self.asked.append(inputs)
        return [Classification(max(one, key=one.__getitem__), 0.8, one) for one in map(scores, inputs)], 1.0


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


def test_each_is_asked_for_its_part_and_no_more(fakes: Fakes, scratch: Path, labelled: ReferenceSet) -> None:
    report = run(fakes.version, fakes.version, labelled, scratch)
    alone = [[labelled.truth[position].text] for position in report.positions]  # type: ignore[union-attr]
    everything = [[one.text for one in labelled.truth]]  # type: ignore[union-attr]
    golden = [[sample.text] for sample in read_golden_texts(fakes.version.folder)]
    assert fakes.serving.asked == alone + everything
    assert fakes.candidate.asked == alone + golden + everything
    fakes.serving.asked.clear()
    known = report.serving[::-1]
    assert run(fakes.version, fakes.version, labelled, scratch, remembered=known).serving == known
    assert fakes.serving.asked == alone


def test_golden_samples_that_are_not_met_are_told_one_by_one(fakes: Fakes, scratch: Path, labelled: ReferenceSet) -> None:
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
def test_what_serves_is_not_the_candidates_fault(
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
def test_what_the_candidate_does_is_its_own(
    fakes: Fakes, scratch: Path, labelled: ReferenceSet, error: Exception, call: int | None
) -> None:
    if call is None:
        fakes.starts["candidate"] = error
    else:
        fakes.candidate.fails[call] = error
    with pytest.raises(type(error), match=str(error)):
        run(fakes.version, fakes.version, labelled, scratch)


def test_that_it_all_takes_too_long_may_be_the_candidates_doing(fakes: Fakes, scratch: Path, labelled: ReferenceSet) -> None:
    fakes.serving.fails[7] = TooLongError("the import was not done after 600 s")
    with pytest.raises(ImportCrashedError, match="not done after 600 s"):
        run(fakes.version, fakes.version, labelled, scratch)


def test_a_photo_of_the_reference_set_that_is_gone_is_not_the_versions_fault(fakes: Fakes, tmp_path: Path) -> None:
    gone = ReferenceSet(tmp_path, (ReferencePhoto(image="gone.jpg", objects=()),))
    with pytest.raises(ImportEnvironmentError, match="the reference set cannot be used"):
        gone.inputs(range(1))
