"""Imports an offer of a registry: fetches, compiles, evaluates and judges it, up to a folder that may be published."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from bunriwiki.artifacts.bounded_yaml import MAX_SCALAR
from bunriwiki.artifacts.manifest import MANIFEST, DamagedArtifactError, Manifest, digest
from bunriwiki.artifacts.reference import REFERENCE
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.status import folder_size
from model_sync.counters import SignatureCounters
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError, SyncCancelledError, UndecidedError
from model_sync.evaluation.answering import SandboxSettings, VersionFolder
from model_sync.evaluation.evaluate import evaluate
from model_sync.evaluation.gates import Finding, is_latency_decided, judge_evaluation, judge_labels
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.remembered import RememberedAnswers
from model_sync.importing.crashes import CrashCounter
from model_sync.importing.fetch import fetch, require_size
from model_sync.quality.evaluated import evaluated
from model_sync.quality.references import References
from model_sync.sandbox.run import run_sandboxed
from model_sync.settings import SyncSettings
from model_sync.signatures import describe
from model_sync.sources import Offer, Source
from model_sync.syncing.report import Report

MAX_IMPORTS = 2  # at the same time: a precompiled version does not wait behind a long compilation
SLOT_SECONDS = 0.2  # between two checks whether an import that waits for others was cancelled
MAX_CRASHES = 3  # of the imports of an offer, after which it is rejected: a crash may be its fault, or this machine's


@dataclass(frozen=True, slots=True)
class Baseline:
    """The version, in `folder`, that a new version is compared with. Without one that a registry `chose`, the bundled one."""

    folder: Path
    chose: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """A version that may be published: its folder, and the findings of the gates that it was forced past, if any."""

    folder: Path
    forced_past: str | None


class Importer:
    """Imports offers until `stopping` is set. Thread-safe.

    The importers that share `slots` import MAX_IMPORTS offers at the same time, which leaves CPU cores to the data plane.
    """

    def __init__(
        self,
        settings: SyncSettings,
        layout: Layout,
        report: Report,
        stopping: threading.Event,
        slots: threading.Semaphore | None = None,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._report = report
        self._stopping = stopping
        self._slots = slots or threading.Semaphore(MAX_IMPORTS)
        self._crashes = CrashCounter()
        self._answers = RememberedAnswers()
        self._signatures = settings.signatures
        self._counters = SignatureCounters(layout.signatures)
        self._references = References(layout.quality)

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, baseline: Baseline, *, force: bool) -> Iterator[Imported]:
        """Import `offer` as the version `version`, evaluated against `baseline`.

        The folder of the result exists within the `with` only. With `force` a failed gate does not reject the version. Raises
        RejectedError if it must not serve, SignatureError (also with `force`) if its signature is invalid, has expired, or is
        older than one that was accepted before; UndecidedError if the machine may be the cause of a finding; SourceError,
        OSError and ImportEnvironmentError if a retry may succeed; SyncCancelledError.
        """
        model = offer.model
        self._report.begin(model)
        scratch = self._layout.staging / f"import-{model}-{uuid.uuid4().hex}"
        try:
            self._signatures.require(offer)
            if self._signatures.enforced:
                self._counters.require(offer, self._signatures.counter(offer))
            with self._report.phase(model, "fetch"):
                fetched = fetch(
                    source,
                    offer,
                    self._layout.downloads,
                    max_bytes=self._settings.max_version_bytes,
                    progress=lambda done, total: self._report.share(model, done / max(1, total)),
                    stop=self._stopping,
                )
            if self._signatures.enforced:
                with self._report.phase(model, "signature"):
                    self._signatures.verify(offer, describe(fetched))
                    self._counters.record(offer, self._signatures.counter(offer))
            with self._report.phase(model, "wait"):
                self._wait_for_slot()
            try:
                forced_past = self._verify(offer, fetched, version, baseline, scratch, force=force)
            finally:
                self._slots.release()
            yield Imported(scratch / "compiled" / "version", forced_past)
            shutil.rmtree(fetched, ignore_errors=True)
        except RejectedError:
            shutil.rmtree(self._layout.downloads / f"{model}-{offer.digest[:16]}", ignore_errors=True)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _wait_for_slot(self) -> None:
        while not self._slots.acquire(timeout=SLOT_SECONDS):
            if self._stopping.is_set():
                raise SyncCancelledError

    def _verify(
        self, offer: Offer, fetched: Path, version: str, baseline: Baseline, scratch: Path, *, force: bool
    ) -> str | None:
        """Compile, evaluate and judge the version; returns the findings of the gates that it was forced past, if any.

        Each step writes to a folder of its own, which the next step can only read.
        """
        model, folder = offer.model, scratch / "compiled" / "version"
        for step in ("requirements", "inputs", "compiled", "evaluated"):
            (scratch / step).mkdir(parents=True)
        try:
            with self._report.phase(model, "verify"):
                self._check_requirements(fetched, scratch / "requirements")
            with self._report.phase(model, "compile"):
                ReferenceSet.read(model, self._settings.reference / model).write_unlabelled(scratch / "inputs")
                self._compile(offer, fetched, scratch / "inputs", folder, version)
            manifest = _read_manifest(folder, model)
            require_size(folder_size(folder), self._settings.max_version_bytes)
            with self._report.phase(model, "evaluate"):
                findings = self._judge(VersionFolder(folder, manifest), baseline, scratch / "evaluated", force=force)
        except ImportCrashedError as error:
            crashes = self._crashes.add(offer.digest)
            if crashes < MAX_CRASHES:
                raise ImportEnvironmentError(f"{error}; the import is retried") from error
            raise RejectedError(f"{error}; the import crashed {crashes} times", "crash") from error
        for finding in findings:
            self._report.found(model, f"{finding.gate}: {_result(finding)}{finding.says}")
        failed = [finding for finding in findings if not finding.passed and not finding.undecided]
        undecided = [finding for finding in findings if not finding.passed and finding.undecided]
        if failed and not force:
            raise RejectedError(_sentence(failed), failed[0].gate)
        if undecided and not force:
            raise UndecidedError(_sentence(undecided))
        return _sentence([*failed, *undecided])[:MAX_SCALAR] or None

    def _check_requirements(self, fetched: Path, scratch: Path) -> None:
        """Raises RejectedError if an environment lacks a requirement of a pyfunc: the runners' or the sidecar's."""
        for folder in {path.parent for path in fetched.rglob("MLmodel")}:
            commands = []
            missing: dict[str, None] = {}  # an ordered set
            for python in dict.fromkeys((self._settings.serve_python, Path(sys.executable))):
                messages = self._run([python, "-m", "bunriwiki.artifacts.requirements", folder], scratch, [folder])
                lacks = [str(requirement) for requirement in messages[-1]["missing"]]
                missing |= dict.fromkeys(lacks)
                others = [requirement for requirement in lacks if not _is_torch(requirement)]
                if len(others) < len(lacks):
                    commands.append("make serve-torch-env")
                if others:
                    commands.append(shlex.join([str(python), "-m", "pip", "install", *others]))
            if missing:
                raise RejectedError(
                    f"requirements of the model are not installed: {', '.join(missing)}. "
                    f"Run {' && '.join(commands)}, then take the version out of quarantine"
                )

    def _compile(self, offer: Offer, fetched: Path, inputs: Path, folder: Path, version: str) -> None:
        job: list[str | Path] = [sys.executable, "-m", "model_sync.importing.compilers.job", offer.model, fetched, folder]
        options: list[str | Path] = ["--version", version, "--source", offer.uri, "--reference", inputs]
        for message in self._run([*job, *options], folder.parent, [fetched, inputs]):
            if "phase" in message:
                self._report.took(offer.model, f"compile: {message['phase']}", message["seconds"])

    def _judge(self, candidate: VersionFolder, baseline: Baseline, scratch: Path, *, force: bool) -> list[Finding]:
        """Evaluate the candidate against the baseline; the findings of all gates."""
        model, thresholds, first = candidate.manifest.model, self._settings.thresholds, not baseline.chose
        try:
            serving = VersionFolder(baseline.folder, Manifest.read(baseline.folder))
        except DamagedArtifactError as error:
            raise ImportEnvironmentError(f"the serving version cannot be read: {error}") from error
        labels = judge_labels(
            [label.name for label in candidate.manifest.labels], [label.name for label in serving.manifest.labels], thresholds
        )
        if not labels.passed and not force:
            return [labels]  # answers in other classes cannot be compared
        reference = ReferenceSet.read(model, self._settings.reference / model)
        mine, theirs = (_key(version, reference) for version in (candidate, serving))
        sandbox = SandboxSettings(self._settings.serve_python, scratch, self._settings.limits, self._stopping)
        report = evaluate(
            candidate,
            serving,
            reference,
            sandbox,
            remembered=self._answers.of(model, theirs),
            is_decided=partial(is_latency_decided, thresholds=thresholds, first=first),
        )
        self._answers.keep(model, {theirs: report.serving, mine: report.reference})
        inputs = (given for position in range(len(reference.truth)) for given in reference.inputs([position]))
        observed = evaluated(inputs, report.reference)
        self._references.keep_evaluation(model, candidate.manifest.version, observed)
        return [labels, *judge_evaluation(report, reference.truth, thresholds, first=first)]

    def _run(self, command: Sequence[str | Path], writable: Path, readable: Sequence[Path]) -> list[dict[str, Any]]:
        return run_sandboxed(
            command, writable=writable, readable=readable, limits=self._settings.limits, stopping=self._stopping
        )


def _sentence(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{finding.gate}: {finding.says}" for finding in findings)


def _result(finding: Finding) -> str:
    if finding.passed:
        return ""
    return "undecided: " if finding.undecided else "failed: "


def _is_torch(requirement: str) -> bool:
    return Requirement(requirement).name.lower() == "torch"


def _key(version: VersionFolder, reference: ReferenceSet) -> str:
    """A key for the answers of a version to a reference set: a digest of what they depend on."""
    return digest(version.folder / MANIFEST) + digest(reference.folder / REFERENCE)


def _read_manifest(folder: Path, model: str) -> Manifest:
    """The manifest of a folder that third-party code may have written.

    Raises RejectedError if the folder contains anything but files and folders, or is not a version of `model`.
    """
    if any(not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) for mode in (path.lstat().st_mode for path in folder.rglob("*"))):
        raise RejectedError("the compiled version contains links or devices")
    try:
        manifest = Manifest.read(folder)
    except DamagedArtifactError as error:
        raise RejectedError(str(error)) from error
    if manifest.model != model:
        raise RejectedError(f"it is a version of {manifest.model}, not of {model}")
    return manifest
