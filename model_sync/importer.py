"""From what a registry offers to a folder that may be published: fetched, compiled, tried, judged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.manifest import MANIFEST, DamagedArtifactError, Manifest, digest
from artifacts.reference import read_reference_photos, read_reference_texts
from artifacts.trial import Answer, Trial
from model_store.layout import Layout
from model_sync.contained import BrokeOffError, run_contained
from model_sync.fetch import fetch
from model_sync.gates import Finding, Truth, judge_labels, judge_trial
from model_sync.report import Report
from model_sync.settings import SyncSettings
from model_sync.sources import Offer, RefusedError, Source

REFUSED = 3  # the exit code of a program that has said why
FULL_DISK = os.strerror(errno.ENOSPC)  # in what it says: no fault of the version


@dataclass(frozen=True, slots=True)
class Imported:
    """A version that may be published: its folder, and what gates it was forced past."""

    folder: Path
    forced_past: str | None


class Importer:
    """Imports take turns: they are to leave the cores to those who answer."""

    def __init__(self, settings: SyncSettings, layout: Layout, report: Report, stopping: threading.Event) -> None:
        self._settings = settings
        self._layout = layout
        self._report = report
        self._stopping = stopping
        self._turn = threading.Lock()
        self._answers: dict[tuple[str, str], tuple[Answer, ...]] = {}  # of the last versions that were tried, by manifest

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, serving: Path, *, force: bool) -> Iterator[Imported]:
        """`offer` as the version `version`, as good as the one in the folder `serving`; it lies there within the `with`.

        Raises RefusedError when it must not serve; SourceError and OSError when another try may do it; StoppedError.
        """
        model = offer.model
        self._report.begin(model)
        scratch = self._layout.staging / f"import-{model}-{uuid.uuid4().hex}"
        try:
            with self._report.phase(model, "fetch"):
                fetched = fetch(
                    source,
                    offer,
                    self._layout.downloads,
                    progress=lambda done, total: self._report.share(model, done / max(1, total)),
                    stop=self._stopping,
                )
            scratch.mkdir(parents=True)
            with self._report.phase(model, "wait"):
                self._turn.acquire()
            try:
                forced_past = self._verify(offer, fetched, version, serving, scratch, force=force)
            finally:
                self._turn.release()
            yield Imported(scratch / "version", forced_past)
            shutil.rmtree(fetched, ignore_errors=True)
        except RefusedError:
            shutil.rmtree(self._layout.downloads / f"{model}-{offer.digest[:16]}", ignore_errors=True)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _verify(self, offer: Offer, fetched: Path, version: str, serving: Path, scratch: Path, *, force: bool) -> str | None:
        model, folder = offer.model, scratch / "version"
        if (fetched / "MLmodel").is_file():
            with self._report.phase(model, "requirements"):
                self._check_requirements(fetched, scratch)
        with self._report.phase(model, "compile"):
            self._compile(offer, fetched, folder, version, scratch)
        try:
            manifest = Manifest.read(folder)
        except DamagedArtifactError as error:
            raise RefusedError(str(error)) from error
        with self._report.phase(model, "try"):
            findings = self._judge(manifest, folder, serving, scratch)
        for finding in findings:
            self._report.found(model, f"{finding.gate}: {'' if finding.passed else 'failed: '}{finding.says}")
        failed = "; ".join(f"{finding.gate}: {finding.says}" for finding in findings if not finding.passed)
        if failed and not force:
            raise RefusedError(failed)
        return failed or None

    def _check_requirements(self, fetched: Path, scratch: Path) -> None:
        lines = self._run([self._settings.serve_python, "-m", "runners.requirements", fetched], scratch, [fetched])
        missing: list[str] = lines[-1]["missing"]
        if missing:
            quoted = " ".join(f"'{one}'" for one in missing)
            here = self._settings.serve_python
            command = f"{here} -m pip install {quoted} && {sys.executable} -m pip install {quoted}"
            if any(one.startswith("torch") for one in missing):
                command = "make serve-torch-env"
            raise RefusedError(f"the runner has no {', '.join(missing)}; to install: {command}")

    def _compile(self, offer: Offer, fetched: Path, folder: Path, version: str, scratch: Path) -> None:
        reference = self._settings.reference / offer.model
        job: list[str | Path] = [sys.executable, "-m", "model_sync.importing.job", offer.model, fetched, folder]
        options: list[str | Path] = ["--version", version, "--source", offer.uri, "--reference", reference]
        for line in self._run([*job, *options], scratch, [fetched, reference]):
            if "phase" in line:
                self._report.took(offer.model, f"compile: {line['phase']}", line["seconds"])

    def _judge(self, manifest: Manifest, folder: Path, serving: Path, scratch: Path) -> list[Finding]:
        model, thresholds = manifest.model, self._settings.thresholds
        theirs = Manifest.read(serving)
        labels = judge_labels([label.name for label in manifest.labels], [label.name for label in theirs.labels], thresholds)
        if not labels.passed:
            return [labels]  # answers in other classes say nothing more
        reference, output = self._settings.reference / model, scratch / "trial.json"
        command: list[str | Path] = [
            self._settings.serve_python, "-m", "runners.trial", model, folder, "--serving", serving, "--reference", reference,
            "--output", output,
        ]  # fmt: skip
        key = (model, digest(serving / MANIFEST))
        if key not in self._answers:
            command.append("--serving-too")
        self._run(command, scratch, [serving, reference], output)
        trial = Trial.model_validate_json(output.read_bytes())
        self._answers.setdefault(key, trial.serving)
        truth: Truth = read_reference_photos(reference) if model == "yolo" else read_reference_texts(reference)
        findings = [labels, *judge_trial(trial, self._answers[key], truth, thresholds)]
        self._answers = {known: answers for known, answers in self._answers.items() if known[0] != model or known == key}
        self._answers[model, digest(folder / MANIFEST)] = trial.reference
        return findings

    def _run(
        self, command: Sequence[str | Path], scratch: Path, readable: Sequence[Path], output: Path | None = None
    ) -> list[dict[str, Any]]:
        """The JSON objects that a contained program prints. Raises RefusedError with its reason, and StoppedError."""
        lines: list[dict[str, Any]] = []
        try:
            code = run_contained(
                command,
                scratch=scratch,
                readable=readable,
                limits=self._settings.limits,
                stopping=self._stopping,
                on_line=lambda line: lines.append(json.loads(line)),
            )
        except BrokeOffError as error:
            raise RefusedError(f"{command[2]}: {error}") from error
        if code == REFUSED:
            said = json.loads(output.read_text(encoding="utf-8")) if output else lines[-1]
            reason = str(said["refused"])
            if FULL_DISK in reason:
                raise OSError(errno.ENOSPC, FULL_DISK)
            raise RefusedError(reason)
        return lines
