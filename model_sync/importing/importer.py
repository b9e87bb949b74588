"""From what a registry offers to a folder that may be published: fetched, compiled, evaluated, judged."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from bunriwiki.artifacts.manifest import MANIFEST, DamagedArtifactError, Manifest, digest
from bunriwiki.artifacts.reference import REFERENCE
from bunriwiki.model_store.layout import Layout
from model_sync.errors import (
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
)
from model_sync.evaluation.answering import Sandboxes, VersionFolder
from model_sync.evaluation.evaluate import evaluate
from model_sync.evaluation.gates import Finding, judge_evaluation, judge_labels
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.evaluation.remembered import RememberedAnswers
from model_sync.importing.fetch import fetch
from model_sync.sandbox.run import run_sandboxed
from model_sync.settings import SyncSettings
from model_sync.signatures import describe
from model_sync.sources import Offer, Source
from model_sync.syncing.report import Report

AT_ONCE = 2  # imports: what is compiled already need not wait for what is not
TRIES = 3  # of an import that breaks off: that may be the version's fault, or this machine's


@dataclass(frozen=True, slots=True)
class Imported:
    """A version that may be published: its folder, and what gates it was forced past."""

    folder: Path
    forced_past: str | None


class Importer:
    """Few imports go on at once: they are to leave the cores to those who answer."""

    def __init__(self, settings: SyncSettings, layout: Layout, report: Report, stopping: threading.Event) -> None:
        self._settings = settings
        self._layout = layout
        self._report = report
        self._stopping = stopping
        self._turns = threading.Semaphore(AT_ONCE)
        self._broken_off: Counter[str] = Counter()  # by digest
        self._answers = RememberedAnswers()
        self._signatures = settings.signatures

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, serving: Path, *, force: bool) -> Iterator[Imported]:
        """`offer` as the version `version`, as good as the one in the folder `serving`; it lies there within the `with`.

        Raises RejectedError when it must not serve, SignatureError (also with `force`) when its signature does not hold;
        SourceError, OSError and ImportEnvironmentError when another try may do it; SyncCancelledError.
        """
        model = offer.model
        self._report.begin(model)
        scratch = self._layout.staging / f"import-{model}-{uuid.uuid4().hex}"
        try:
            self._signatures.require(offer)
            with self._report.phase(model, "fetch"):
                fetched = fetch(
                    source,
                    offer,
                    self._layout.downloads,
                    progress=lambda done, total: self._report.share(model, done / max(1, total)),
                    stop=self._stopping,
                )
            if self._signatures.asked_for:
                with self._report.phase(model, "signature"):
                    self._signatures.verify(offer, describe(fetched))
            with self._report.phase(model, "wait"):
                self._turns.acquire()
            try:
                forced_past = self._verify(offer, fetched, version, serving, scratch, force=force)
            finally:
                self._turns.release()
            yield Imported(scratch / "made" / "version", forced_past)
            shutil.rmtree(fetched, ignore_errors=True)
        except RejectedError:
            shutil.rmtree(self._layout.downloads / f"{model}-{offer.digest[:16]}", ignore_errors=True)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _verify(self, offer: Offer, fetched: Path, version: str, serving: Path, scratch: Path, *, force: bool) -> str | None:
        """What gates the version was forced past. Each step writes to a folder of its own, which the next only reads."""
        model, folder = offer.model, scratch / "made" / "version"
        for place in ("read", "questions", "made", "evaluated"):
            (scratch / place).mkdir(parents=True)
        try:
            with self._report.phase(model, "requirements"):
                self._check_requirements(fetched, scratch / "read")
            with self._report.phase(model, "compile"):
                ReferenceSet.read(model, self._settings.reference / model).write_questions(scratch / "questions")
                self._compile(offer, fetched, scratch / "questions", folder, version)
            manifest = _read_manifest(folder, model)
            with self._report.phase(model, "try"):
                findings = self._judge(VersionFolder(folder, manifest), serving, scratch / "evaluated", force=force)
        except RejectedError as error:
            raise RejectedError(str(error)) from error
        except ImportCrashedError as error:
            self._broken_off[offer.digest] += 1
            if self._broken_off[offer.digest] < TRIES:
                raise ImportEnvironmentError(f"{error}; it is tried again") from error
            raise RejectedError(f"{error}; that was the {TRIES}rd time") from error
        for finding in findings:
            self._report.found(model, f"{finding.gate}: {'' if finding.passed else 'failed: '}{finding.says}")
        failed = "; ".join(f"{finding.gate}: {finding.says}" for finding in findings if not finding.passed)
        if failed and not force:
            raise RejectedError(failed)
        return failed or None

    def _check_requirements(self, fetched: Path, scratch: Path) -> None:
        """Raises RejectedError when a pyfunc asks for what is not there, neither to serve it nor to try it."""
        for folder in {path.parent for path in fetched.rglob("MLmodel")}:
            commands = []
            absent: dict[str, None] = {}  # in their order
            for python in dict.fromkeys((self._settings.serve_python, Path(sys.executable))):
                told = self._run([python, "-m", "bunriwiki.artifacts.requirements", folder], scratch, [folder])
                missing = [str(one) for one in told[-1]["missing"]]
                absent |= dict.fromkeys(missing)
                others = [one for one in missing if not _is_torch(one)]
                if len(others) < len(missing):
                    commands.append("make serve-torch-env")
                if others:
                    commands.append(shlex.join([str(python), "-m", "pip", "install", *others]))
            if absent:
                raise RejectedError(
                    f"the runner has no {', '.join(absent)}; to install: {' && '.join(commands)}, "
                    "then take the version out of quarantine"
                )

    def _compile(self, offer: Offer, fetched: Path, questions: Path, folder: Path, version: str) -> None:
        job: list[str | Path] = [sys.executable, "-m", "model_sync.importing.compilers.job", offer.model, fetched, folder]
        options: list[str | Path] = ["--version", version, "--source", offer.uri, "--reference", questions]
        for line in self._run([*job, *options], folder.parent, [fetched, questions]):
            if "phase" in line:
                self._report.took(offer.model, f"compile: {line['phase']}", line["seconds"])

    def _judge(self, candidate: VersionFolder, folder: Path, scratch: Path, *, force: bool) -> list[Finding]:
        """`folder` has what serves."""
        model, thresholds = candidate.manifest.model, self._settings.thresholds
        try:
            serving = VersionFolder(folder, Manifest.read(folder))
        except DamagedArtifactError as error:
            raise ImportEnvironmentError(f"what serves cannot be compared with: {error}") from error
        labels = judge_labels(
            [label.name for label in candidate.manifest.labels], [label.name for label in serving.manifest.labels], thresholds
        )
        if not labels.passed and not force:
            return [labels]  # answers in other classes say nothing more
        reference = ReferenceSet.read(model, self._settings.reference / model)
        mine, theirs = (_key(version, reference) for version in (candidate, serving))
        sandboxes = Sandboxes(self._settings.serve_python, scratch, self._settings.limits, self._stopping)
        report = evaluate(candidate, serving, reference, sandboxes, self._answers.of(model, theirs))
        self._answers.keep(model, {theirs: report.serving, mine: report.reference})
        return [labels, *judge_evaluation(report, reference.truth, thresholds)]

    def _run(self, command: Sequence[str | Path], writable: Path, readable: Sequence[Path]) -> list[dict[str, Any]]:
        return run_sandboxed(
            command, writable=writable, readable=readable, limits=self._settings.limits, stopping=self._stopping
        )


def _is_torch(requirement: str) -> bool:
    return Requirement(requirement).name.lower() == "torch"


def _key(version: VersionFolder, reference: ReferenceSet) -> str:
    """What the answers of a version to a reference set depend on."""
    return digest(version.folder / MANIFEST) + digest(reference.folder / REFERENCE)


def _read_manifest(folder: Path, model: str) -> Manifest:
    """The manifest of what other people's code made. Raises RejectedError when there is more than files and folders."""
    if any(not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) for mode in (path.lstat().st_mode for path in folder.rglob("*"))):
        raise RejectedError("what was compiled holds links or devices")
    try:
        manifest = Manifest.read(folder)
    except DamagedArtifactError as error:
        raise RejectedError(str(error)) from error
    if manifest.model != model:
        raise RejectedError(f"it is a version of {manifest.model}, not of {model}")
    return manifest
