"""The importer's decisions; what it runs is a fake here, and real in tests/integration/test_sync*.py."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.manifest import Label, Manifest
from bunriwiki.model_store.layout import Layout
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError, SignatureError
from model_sync.evaluation.answering import Sandboxes, VersionFolder
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.importing import importer as module
from model_sync.importing.importer import Importer
from model_sync.publishing import read_key
from model_sync.settings import SyncSettings
from model_sync.signatures import SignedFile, sign
from model_sync.sources import Offer
from model_sync.syncing.report import Report
from tests.conftest import MODELS
from tests.keys import make_keys
from tests.model_sync.fakes import offer
from tests.published import compiled

SERVING = MODELS / "kcbert"
FILES = (SignedFile("weights", 5, hashlib.sha256(b"bytes").hexdigest()),)  # what is fetched


class Programs:
    """Stands for `run_sandboxed` and `evaluate`: does what the job would do, and what versions would answer.

    `fails` has what a program, or `evaluate`, raises instead.
    """

    def __init__(self, version: Path) -> None:
        self.version = version
        self.ran: list[list[str]] = []
        self.fails: dict[str, Exception] = {}
        self.missing: dict[str, list[str]] = {}
        self.spoil: Callable[[Path], None] = lambda _: None
        self.wrong = 0  # reference inputs that are answered wrongly
        self.questions = ""  # what golden samples may be made of
        self.remembered: list[bool] = []  # for each evaluation, whether the serving version's answers were known

    def __call__(self, command: Any, *, writable: Path, **_: Any) -> list[dict[str, Any]]:
        words = [str(word) for word in command]
        self.ran.append(words)
        name = words[2]
        if name in self.fails:
            raise self.fails[name]
        if name == "bunriwiki.artifacts.requirements":
            return [{"begun": True}, {"missing": self.missing.get(words[0], [])}]
        if name == "model_sync.importing.compilers.job":
            self.questions = Path(words[words.index("--reference") + 1]).joinpath("reference.jsonl").read_text(encoding="utf-8")
            shutil.copytree(self.version, words[5])
            self.spoil(Path(words[5]))
            return [{"begun": True}, {"phase": "load", "seconds": 1.5}, {"done": True}]
        raise AssertionError(f"{name} is none of the importer's programs")

    def evaluate(
        self,
        candidate: VersionFolder,
        serving: VersionFolder,
        reference: ReferenceSet,
        sandboxes: Sandboxes,
        remembered: tuple[Answer, ...] | None,
    ) -> EvaluationReport:
        assert (serving.folder, sandboxes.python) == (SERVING, Path("/bin/sh"))
        assert sandboxes.scratch.is_dir()
        self.remembered.append(remembered is not None)
        if "evaluate" in self.fails:
            raise self.fails["evaluate"]
        right = [_said(sample.label) for sample in reference.truth]  # type: ignore[union-attr]
        answers = [_said("nothing")] * self.wrong + right[self.wrong :]
        positions = range(10, len(answers), 20)
        return EvaluationReport(
            golden=(None,), reference=tuple(answers), serving=tuple(right) if remembered is None else remembered,
            positions=positions, alone=tuple(answers[one] for one in positions), milliseconds=((1.0, 1.0),),
        )  # fmt: skip


def _said(label: str) -> Classification:
    return Classification(label=label, score=1, details={label: 1})


class Setup:
    def __init__(self, root: Path, programs: Programs) -> None:
        self.layout = Layout(root / "store")
        self.layout.create()
        self.report = Report(self.layout.sync, {"kcbert": "here"})
        self.importer = Importer(SyncSettings(), self.layout, self.report, threading.Event())
        self.programs = programs
        self.fetched = self.layout.downloads / "kcbert-d1"

    def bring(self, one: Offer | None = None, *, force: bool = False) -> str | None:
        self.fetched.mkdir(exist_ok=True)
        (self.fetched / "weights").write_bytes(b"bytes")
        with self.importer.bring(None, one or offer(), "v1", SERVING, force=force) as imported:  # type: ignore[arg-type]
            assert (imported.folder / "manifest.yaml").is_file()
            return imported.forced_past

    @property
    def left(self) -> list[Path]:
        return list(self.layout.staging.iterdir())


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("kcbert", tmp_path_factory.mktemp("version") / "kcbert")


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ed25519PrivateKey:
    """A deployment that takes only what this key signed."""
    private, public = make_keys(tmp_path)
    monkeypatch.setenv("BUNRIWIKI_PUBLIC_KEY", str(public))
    return read_key(private)


@pytest.fixture
def setup(tmp_path: Path, version: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", "/bin/sh")
    programs = Programs(version)
    one = Setup(tmp_path, programs)
    monkeypatch.setattr(module, "run_sandboxed", programs)
    monkeypatch.setattr(module, "evaluate", programs.evaluate)
    monkeypatch.setattr(module, "fetch", lambda *_, **__: one.fetched)
    return one


def test_a_good_version_is_there_within_the_with_and_nothing_is_left_after(setup: Setup) -> None:
    assert setup.bring() is None
    assert setup.left == []
    assert not setup.fetched.exists()
    told = setup.report.state().models["kcbert"]
    assert {"fetch", "compile: load", "compile", "try"} <= told.seconds.keys()
    assert [finding.split(":")[0] for finding in told.findings] == ["labels", "agreement", "quality", "batches", "latency"]


def test_the_serving_version_answers_the_reference_set_once(setup: Setup) -> None:
    setup.bring()
    setup.bring(offer(digest="d2"))
    assert setup.programs.remembered == [False, True]


def test_a_worse_version_is_rejected_and_says_by_how_much(setup: Setup) -> None:
    setup.programs.wrong = 100
    with pytest.raises(RejectedError, match=r"^quality: macro F1 \d+\.\d on 471 reference inputs, what serves has 100\.0"):
        setup.bring()
    assert setup.left == []
    assert not setup.fetched.exists()


def test_force_goes_past_the_gates_and_says_which(setup: Setup) -> None:
    setup.programs.wrong = 100
    assert (setup.bring(force=True) or "").startswith("quality: macro F1")


def test_other_classes_are_rejected_before_an_evaluation_and_evaluated_all_the_same_when_forced(
    setup: Setup, tmp_path: Path
) -> None:
    def rename(folder: Path) -> None:
        manifest = Manifest.read(folder)
        manifest.model_copy(update={"labels": (Label(name="new", ko="새"), *manifest.labels[1:])}).write(folder)

    setup.programs.spoil = rename
    with pytest.raises(RejectedError, match=r"^labels: without the classes \['none'\], with the new ones \['new'\]"):
        setup.bring()
    assert setup.programs.remembered == []
    assert (setup.bring(force=True) or "").startswith("labels: ")
    assert setup.programs.remembered == [False]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("signature", [None, "c2ln", sign(Ed25519PrivateKey.generate(), "kcbert", "v1", FILES)])
def test_without_a_signature_that_holds_nothing_is_opened(
    asking: Ed25519PrivateKey, setup: Setup, signature: str | None, force: bool
) -> None:
    with pytest.raises(SignatureError, match=r"^(what )?(the signature of )?kcbert v1 "):
        setup.bring(replace(offer(), signature=signature), force=force)
    assert setup.programs.ran == []
    assert setup.left == []
    assert not setup.fetched.exists()


def test_what_was_fetched_is_what_was_signed(asking: Ed25519PrivateKey, setup: Setup) -> None:
    one = replace(offer(), signature=sign(asking, "kcbert", "v1", FILES))
    assert setup.bring(one) is None
    assert "signature" in setup.report.state().models["kcbert"].seconds
    setup.fetched.mkdir()
    (setup.fetched / "another").touch()
    with pytest.raises(SignatureError, match="is of other content"):
        setup.bring(one, force=True)


def test_where_no_signature_is_asked_for_none_is_looked_at(setup: Setup) -> None:
    assert setup.bring(replace(offer(), signature="?")) is None
    assert "signature" not in setup.report.state().models["kcbert"].seconds


def test_what_a_program_rejects_is_rejected(setup: Setup) -> None:
    setup.programs.fails["model_sync.importing.compilers.job"] = RejectedError("best.pt is no checkpoint")
    with pytest.raises(RejectedError, match=r"^best\.pt is no checkpoint$"):
        setup.bring()


def test_what_is_wrong_here_is_held_against_nobody(setup: Setup) -> None:
    setup.programs.fails["evaluate"] = ImportEnvironmentError("what serves cannot be evaluated")
    for _ in range(5):
        with pytest.raises(ImportEnvironmentError):
            setup.bring()
    assert setup.fetched.exists()  # it need not be fetched again


def test_an_import_that_breaks_off_is_tried_three_times(setup: Setup) -> None:
    setup.programs.fails["model_sync.importing.compilers.job"] = ImportCrashedError("the import died of SIGKILL")
    for _ in range(2):
        with pytest.raises(ImportEnvironmentError, match=r"SIGKILL; it is tried again$"):
            setup.bring()
    with pytest.raises(RejectedError, match=r"SIGKILL; that was the 3rd time$"):
        setup.bring()
    with pytest.raises(ImportEnvironmentError):
        setup.bring(offer(digest="d2"))


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (RejectedError("3 answers to 4 inputs"), RejectedError),
        (ImportCrashedError("the import died of SIGKILL"), ImportEnvironmentError),
        (ImportEnvironmentError("what serves cannot be evaluated"), ImportEnvironmentError),
    ],
)
def test_an_evaluation_says_whose_fault_it_is(setup: Setup, raised: Exception, becomes: type[Exception]) -> None:
    setup.programs.fails["evaluate"] = raised
    with pytest.raises(becomes, match=str(raised)):
        setup.bring()
    assert setup.left == []


def test_a_version_of_another_model_is_rejected(setup: Setup) -> None:
    def rename(folder: Path) -> None:
        Manifest.read(folder).model_copy(update={"model": "sentiment"}).write(folder)

    setup.programs.spoil = rename
    with pytest.raises(RejectedError, match="it is a version of sentiment, not of kcbert"):
        setup.bring()


def test_a_reference_set_that_cannot_be_read_is_not_the_versions_fault(setup: Setup, tmp_path: Path) -> None:
    for model in MODELS.iterdir():
        (tmp_path / "sets" / model.name).mkdir(parents=True)
        (tmp_path / "sets" / model.name / "reference.jsonl").write_text("{}")
    settings = SyncSettings(reference=tmp_path / "sets")
    setup.importer = Importer(settings, setup.layout, setup.report, threading.Event())
    with pytest.raises(ImportEnvironmentError, match="the reference set cannot be used"):
        setup.bring()


def test_what_compiles_gets_no_labels(setup: Setup) -> None:
    setup.bring()
    asked = [json.loads(line) for line in setup.programs.questions.splitlines()]
    assert len(asked) == 64
    assert {one["label"] for one in asked} == {""}
    assert str(MODELS) not in [word for words in setup.programs.ran for word in words]


@pytest.mark.parametrize("spoil", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "link"])
def test_what_was_compiled_is_files_only(setup: Setup, spoil: Callable[[Path], None]) -> None:
    setup.programs.spoil = lambda folder: spoil(folder / "other")
    with pytest.raises(RejectedError, match="links or devices"):
        setup.bring()


def test_what_a_pyfunc_needs_is_named_with_the_commands_that_install_it(setup: Setup) -> None:
    setup.fetched.mkdir()
    (setup.fetched / "MLmodel").write_text("flavors: {}")
    setup.programs.missing = {"/bin/sh": ["catboost==1.2", "torch==2.13.0"], sys.executable: ["catboost==1.2"]}
    with pytest.raises(RejectedError) as rejected:
        setup.bring()
    installs = [f"{python} -m pip install catboost==1.2" for python in ("/bin/sh", sys.executable)]
    assert str(rejected.value) == (
        "the runner has no catboost==1.2, torch==2.13.0; to install: make serve-torch-env && "
        f"{' && '.join(installs)}, then take the version out of quarantine"
    )


def test_a_damaged_serving_version_is_not_the_new_ones_fault(setup: Setup, tmp_path: Path) -> None:
    setup.fetched.mkdir()
    with (
        pytest.raises(ImportEnvironmentError, match="what serves cannot be compared with"),
        setup.importer.bring(None, offer(), "v1", tmp_path, force=False),  # type: ignore[arg-type]
    ):
        pass
