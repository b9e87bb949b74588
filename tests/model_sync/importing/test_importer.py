"""The importer's decisions, with fake programs; tests/integration/test_sync*.py run the real ones."""

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
from bunriwiki.artifacts.features import inputs
from bunriwiki.artifacts.manifest import Label, Manifest
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.keys import make_keys
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import compiled
from model_sync.envelope import Validity
from model_sync.errors import (
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
    ReplayedError,
    SignatureError,
    SyncCancelledError,
    UndecidedError,
)
from model_sync.evaluation.answering import SandboxSettings, VersionFolder
from model_sync.evaluation.latency import Pairs
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.report import Answer, EvaluationReport
from model_sync.importing import importer as module
from model_sync.importing.importer import Baseline, Importer
from model_sync.quality.references import References
from model_sync.settings import SyncSettings
from model_sync.signatures import SignedFile, sign
from model_sync.signing import read_key
from model_sync.sources import Offer
from model_sync.syncing.report import Report
from tests.model_sync.fakes import offer

SERVING = MODELS / "kcbert"
FILES = (SignedFile("weights", 5, hashlib.sha256(b"bytes").hexdigest()),)  # the fetched files


class Programs:
    """Replaces `run_sandboxed` and `evaluate`: does what the programs do, and answers as versions do.

    `fails` has the errors to raise instead, by the name of a program or `evaluate`.
    """

    def __init__(self, version: Path) -> None:
        self.version = version
        self.commands: list[list[str]] = []
        self.fails: dict[str, Exception] = {}
        self.missing: dict[str, list[str]] = {}
        self.spoil: Callable[[Path], None] = lambda _: None
        self.milliseconds: Pairs = ((1.0, 1.0),) * 22
        self.wrong = 0  # the number of reference inputs with a wrong answer
        self.inputs = ""  # the reference set that the compiler received
        self.remembered: list[bool] = []  # for each evaluation, whether the serving version's answers were known

    def __call__(self, command: Any, *, writable: Path, **_: Any) -> list[dict[str, Any]]:
        arguments = [str(argument) for argument in command]
        self.commands.append(arguments)
        name = arguments[2]
        if name in self.fails:
            raise self.fails[name]
        if name == "bunriwiki.artifacts.requirements":
            return [{"begun": True}, {"missing": self.missing.get(arguments[0], [])}]
        if name == "model_sync.importing.compilers.job":
            inputs = Path(arguments[arguments.index("--reference") + 1])
            self.inputs = (inputs / "reference.jsonl").read_text(encoding="utf-8")
            shutil.copytree(self.version, arguments[5])
            self.spoil(Path(arguments[5]))
            return [{"begun": True}, {"phase": "load", "seconds": 1.5}, {"done": True}]
        raise AssertionError(f"{name} is not a program of the importer")

    def evaluate(
        self,
        candidate: VersionFolder,
        serving: VersionFolder,
        reference: ReferenceSet,
        settings: SandboxSettings,
        *,
        remembered: tuple[Answer, ...] | None,
        is_decided: Callable[[Pairs], bool],
    ) -> EvaluationReport:
        assert (serving.folder, settings.python) == (SERVING, Path("/bin/sh"))
        assert settings.scratch.is_dir()
        self.remembered.append(remembered is not None)
        if "evaluate" in self.fails:
            raise self.fails["evaluate"]
        right = [_answer(sample.label) for sample in reference.truth]  # type: ignore[union-attr]
        answers = [_answer("nothing")] * self.wrong + right[self.wrong :]
        positions = tuple(range(10, len(answers), 20))
        return EvaluationReport(
            golden=(None,), reference=tuple(answers), serving=tuple(right) if remembered is None else remembered,
            positions=positions, alone=tuple(answers[position] for position in positions), milliseconds=self.milliseconds,
        )  # fmt: skip


def _answer(label: str) -> Classification:
    return Classification(label=label, score=1, details={label: 1})


class Setup:
    def __init__(self, root: Path, programs: Programs) -> None:
        self.layout = Layout(root / "store")
        self.layout.create()
        self.report = Report(self.layout.sync, {"kcbert": "here"})
        self.importer = Importer(SyncSettings(), self.layout, self.report, threading.Event())
        self.programs = programs
        self.fetched = self.layout.downloads / "kcbert-d1"

    def bring(self, given: Offer | None = None, *, force: bool = False, first: bool = False) -> str | None:
        self.fetched.mkdir(exist_ok=True)
        (self.fetched / "weights").write_bytes(b"bytes")
        baseline = Baseline(SERVING, chose=not first)
        with self.importer.bring(None, given or offer(), "v1", baseline, force=force) as imported:  # type: ignore[arg-type]
            assert (imported.folder / "manifest.yaml").is_file()
            return imported.forced_past

    @property
    def left(self) -> list[Path]:
        return list(self.layout.staging.iterdir())


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("kcbert", tmp_path_factory.mktemp("version") / "kcbert")


@pytest.fixture
def signing_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ed25519PrivateKey:
    """The deployment accepts only versions that this key signed."""
    private, public = make_keys(tmp_path)
    monkeypatch.setenv("BUNRIWIKI_PUBLIC_KEY", str(public))
    return read_key(private)


@pytest.fixture
def setup(tmp_path: Path, version: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", "/bin/sh")
    programs = Programs(version)
    made = Setup(tmp_path, programs)
    monkeypatch.setattr(module, "run_sandboxed", programs)
    monkeypatch.setattr(module, "evaluate", programs.evaluate)
    monkeypatch.setattr(module, "fetch", lambda *_, **__: made.fetched)
    return made


def test_a_good_version_exists_within_the_with_and_nothing_is_left_afterwards(setup: Setup) -> None:
    assert setup.bring() is None
    assert setup.left == []
    assert not setup.fetched.exists()
    state = setup.report.state().models["kcbert"]
    assert {"fetch", "wait", "verify", "compile: load", "compile", "evaluate"} == state.seconds.keys()
    assert [finding.split(":")[0] for finding in state.findings] == ["labels", "agreement", "quality", "batches", "latency"]


def test_the_features_of_its_evaluation_are_its_reference(setup: Setup) -> None:
    setup.bring()
    found = References(setup.layout.quality).read("kcbert", "v1")
    assert found.kind == "evaluation"
    assert inputs(found.current) == 471
    assert found.current["score"] == {"0.95": 471}


def test_the_answers_of_the_serving_version_are_remembered(setup: Setup) -> None:
    setup.bring()
    setup.bring(offer(digest="d2"))
    assert setup.programs.remembered == [False, True]


def test_a_worse_version_is_rejected_with_both_scores(setup: Setup) -> None:
    setup.programs.wrong = 100
    with pytest.raises(RejectedError, match=r"^quality: macro F1 \d+\.\d on 471 .*, the serving version has 100\.0"):
        setup.bring()
    assert setup.left == []
    assert not setup.fetched.exists()


def test_the_first_version_is_held_to_the_floor(setup: Setup) -> None:
    setup.programs.wrong = 100
    assert setup.bring(first=True) is None
    setup.programs.wrong = 400
    with pytest.raises(
        RejectedError, match=r"^quality: macro F1 \d+\.\d on 471 .* the first version of a registry needs 46\.7"
    ):
        setup.bring(first=True)


UNCLEAR: Pairs = ((1.0, 1.0), (4.0, 1.0)) * 20


def test_a_latency_that_may_be_either_is_undecided_and_the_files_stay_for_the_next_attempt(setup: Setup) -> None:
    setup.programs.milliseconds = UNCLEAR
    for _ in range(5):
        with pytest.raises(UndecidedError, match=r"^latency: 2\.5 times as long as the serving version"):
            setup.bring()
    assert setup.fetched.exists()
    assert setup.left == []
    assert any(
        finding.startswith("latency: undecided: 2.5 times") for finding in setup.report.state().models["kcbert"].findings
    )


def test_a_version_that_fails_another_gate_is_rejected_even_if_its_latency_is_undecided(setup: Setup) -> None:
    setup.programs.milliseconds, setup.programs.wrong = UNCLEAR, 100
    with pytest.raises(RejectedError, match=r"^quality: [^;]*; at most 2 points less are allowed$"):
        setup.bring()
    assert (setup.bring(force=True) or "").count("latency: 2.5 times") == 1


def test_a_timeout_of_which_a_busy_machine_may_be_the_cause_is_no_crash(setup: Setup) -> None:
    setup.programs.fails["evaluate"] = UndecidedError("it did not finish, but the machine is busy")
    for _ in range(5):
        with pytest.raises(UndecidedError):
            setup.bring()


def test_force_overrides_the_gates_and_returns_the_failed_ones(setup: Setup) -> None:
    setup.programs.wrong = 100
    assert (setup.bring(force=True) or "").startswith("quality: macro F1")


def test_other_classes_are_rejected_without_an_evaluation_unless_forced(setup: Setup) -> None:
    def rename(folder: Path) -> None:
        manifest = Manifest.read(folder)
        manifest.model_copy(update={"labels": (Label(name="new", ko="새"), *manifest.labels[1:])}).write(folder)

    setup.programs.spoil = rename
    with pytest.raises(RejectedError, match=r"^labels: the classes \['none'\] are missing, \['new'\] are new"):
        setup.bring()
    assert setup.programs.remembered == []
    assert (setup.bring(force=True) or "").startswith("labels: ")
    assert setup.programs.remembered == [False]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "signature",
    [None, "c2ln", sign(Ed25519PrivateKey.generate(), "kcbert", "v1", FILES)],
    ids=["none", "malformed", "by another key"],
)
def test_without_a_valid_signature_nothing_is_opened(
    signing_key: Ed25519PrivateKey, setup: Setup, signature: str | None, force: bool
) -> None:
    with pytest.raises(SignatureError, match=r"^(what )?(the signature of )?kcbert v1 "):
        setup.bring(replace(offer(), signature=signature), force=force)
    assert setup.programs.commands == []
    assert setup.left == []
    assert not setup.fetched.exists()


def test_the_signature_covers_the_fetched_files(signing_key: Ed25519PrivateKey, setup: Setup) -> None:
    signed = replace(offer(), signature=sign(signing_key, "kcbert", "v1", FILES))
    assert setup.bring(signed) is None
    assert "signature" in setup.report.state().models["kcbert"].seconds
    setup.fetched.mkdir()
    (setup.fetched / "another").touch()
    with pytest.raises(SignatureError, match="is for other content"):
        setup.bring(signed, force=True)


def test_an_older_signature_is_a_replay(signing_key: Ed25519PrivateKey, setup: Setup) -> None:
    def signed(counter: int) -> Offer:
        signature = sign(signing_key, "kcbert", "v1", FILES, Validity(counter, expires=10**12))
        return replace(offer(digest=f"d{counter}"), signature=signature)

    assert setup.bring(signed(5)) is None
    assert setup.bring(signed(7)) is None
    for replayed in (signed(5), replace(offer(), signature=sign(signing_key, "kcbert", "v1", FILES))):
        with pytest.raises(ReplayedError, match="older"):
            setup.bring(replayed, force=True)
    assert setup.bring(signed(7)) is None


def test_a_counter_that_nobody_signed_is_not_remembered(signing_key: Ed25519PrivateKey, setup: Setup) -> None:
    genuine = sign(signing_key, "kcbert", "v1", FILES, Validity(5, expires=10**12))
    forged = genuine.replace("5.", "999.", 1)
    with pytest.raises(SignatureError, match="is for other content"):
        setup.bring(replace(offer(), signature=forged))
    assert setup.bring(replace(offer(), signature=genuine)) is None


def test_a_signature_is_ignored_unless_signatures_are_required(setup: Setup) -> None:
    assert setup.bring(replace(offer(), signature="?")) is None
    assert "signature" not in setup.report.state().models["kcbert"].seconds


def test_a_rejection_by_a_program_is_raised(setup: Setup) -> None:
    setup.programs.fails["model_sync.importing.compilers.job"] = RejectedError("best.pt is not a checkpoint")
    with pytest.raises(RejectedError, match=r"^best\.pt is not a checkpoint$"):
        setup.bring()


def test_an_environment_error_never_rejects_a_version(setup: Setup) -> None:
    setup.programs.fails["evaluate"] = ImportEnvironmentError("the serving version cannot be evaluated")
    for _ in range(5):
        with pytest.raises(ImportEnvironmentError):
            setup.bring()
    assert setup.fetched.exists()  # a retry need not fetch it again


def test_an_import_that_crashes_three_times_is_rejected(setup: Setup) -> None:
    setup.programs.fails["model_sync.importing.compilers.job"] = ImportCrashedError("the import was killed by SIGKILL")
    for _ in range(2):
        with pytest.raises(ImportEnvironmentError, match=r"SIGKILL; the import is retried$"):
            setup.bring()
    with pytest.raises(RejectedError, match=r"SIGKILL; the import crashed 3 times$"):
        setup.bring()
    with pytest.raises(ImportEnvironmentError):
        setup.bring(offer(digest="d2"))


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (RejectedError("3 answers to 4 inputs"), RejectedError),
        (ImportCrashedError("the import was killed by SIGKILL"), ImportEnvironmentError),
        (ImportEnvironmentError("the serving version cannot be evaluated"), ImportEnvironmentError),
    ],
)
def test_errors_of_an_evaluation_are_raised(setup: Setup, raised: Exception, becomes: type[Exception]) -> None:
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


def test_an_unreadable_reference_set_is_an_environment_error(setup: Setup, tmp_path: Path) -> None:
    for model in MODELS.iterdir():
        (tmp_path / "sets" / model.name).mkdir(parents=True)
        (tmp_path / "sets" / model.name / "reference.jsonl").write_text("{}")
    settings = SyncSettings(reference=tmp_path / "sets")
    setup.importer = Importer(settings, setup.layout, setup.report, threading.Event())
    with pytest.raises(ImportEnvironmentError, match="the reference set cannot be read"):
        setup.bring()


def test_the_compiler_receives_no_labels(setup: Setup) -> None:
    setup.bring()
    samples = [json.loads(line) for line in setup.programs.inputs.splitlines()]
    assert len(samples) == 64
    assert {sample["label"] for sample in samples} == {""}
    assert setup.programs.commands
    assert not [argument for command in setup.programs.commands for argument in command if argument.startswith(str(MODELS))]


@pytest.mark.parametrize("spoil", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "link"])
def test_a_compiled_version_with_links_or_devices_is_rejected(setup: Setup, spoil: Callable[[Path], None]) -> None:
    setup.programs.spoil = lambda folder: spoil(folder / "other")
    with pytest.raises(RejectedError, match="links or devices"):
        setup.bring()


def test_missing_requirements_of_a_pyfunc_are_listed_with_the_commands_to_install_them(setup: Setup) -> None:
    setup.fetched.mkdir()
    (setup.fetched / "MLmodel").write_text("flavors: {}")
    setup.programs.missing = {"/bin/sh": ["catboost==1.2", "torch==2.13.0"], sys.executable: ["catboost==1.2"]}
    with pytest.raises(RejectedError) as rejected:
        setup.bring()
    installs = [f"{python} -m pip install catboost==1.2" for python in ("/bin/sh", sys.executable)]
    assert str(rejected.value) == (
        "requirements of the model are not installed: catboost==1.2, torch==2.13.0. Run make serve-torch-env && "
        f"{' && '.join(installs)}, then take the version out of quarantine"
    )


def test_a_damaged_serving_version_is_an_environment_error(setup: Setup, tmp_path: Path) -> None:
    setup.fetched.mkdir()
    with (
        pytest.raises(ImportEnvironmentError, match="the serving version cannot be read"),
        setup.importer.bring(None, offer(), "v1", Baseline(tmp_path, chose=True), force=False),  # type: ignore[arg-type]
    ):
        pass


def test_a_cancelled_import_does_not_wait_for_others(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOT_SECONDS", 0.01)
    stop = threading.Event()
    stop.set()
    busy = threading.Semaphore(0)
    setup.importer = Importer(SyncSettings(), setup.layout, setup.report, stop, busy)
    with pytest.raises(SyncCancelledError):
        setup.bring()
    assert (setup.left, setup.fetched.is_dir()) == ([], True)  # the files that were fetched are kept for the next import


def test_a_compiled_version_that_is_too_large_is_rejected(setup: Setup) -> None:
    def grow(folder: Path) -> None:
        with (folder / "more").open("wb") as stream:
            stream.truncate(SyncSettings().max_version_bytes)  # a sparse file

    setup.programs.spoil = grow
    with pytest.raises(RejectedError, match="BUNRIWIKI_MAX_VERSION_MB"):
        setup.bring(force=True)
    assert setup.left == []
