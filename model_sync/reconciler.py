"""One sync of one model: imports and promotes the version that the registry names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.generation import GenerationError, Target, Trigger
from bunriwiki.model_store.names import FALLBACK, MAX_CHARACTERS, to_store
from bunriwiki.model_store.promotion import BadVersionError, FailsLiveError, PromotionError, promote
from bunriwiki.model_store.publication import VersionExistsError, registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.counters import SignatureCounters
from model_sync.errors import (
    ImportCancelledError,
    ImportEnvironmentError,
    RejectedError,
    ReplayedError,
    SignatureError,
    SourceError,
    UndecidedError,
)
from model_sync.importing.cancellation import Cancellation
from model_sync.importing.importer import Baseline, Importer
from model_sync.importing.postponed import Postponed
from model_sync.signatures import Signatures, SignedFile
from model_sync.sources import Offer, Source
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome, SyncStatus

NO_SIGNATURES = Signatures()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Makes the version that the registry names serve. Not safe to use from several threads.

    `fallback` is the folder of the version that serves while no version of the store does. `before_activation` is called when
    every worker has loaded the new version, before it serves, and `after_activation` when it serves, with the version that it
    replaced. An operator can stop an import through `cancellation`. `signatures` are those that the importer requires.
    """

    model: str
    source: Source
    writer: StoreWriter
    importer: Importer
    report: Report
    fallback: Path
    cancellation: Cancellation
    before_activation: Callable[[Target], None] = lambda _: None
    after_activation: Callable[[str], None] = lambda _: None
    signatures: Signatures = NO_SIGNATURES
    postponed: Postponed = field(default_factory=Postponed)

    def sync(self, by: Trigger, *, force: bool) -> Outcome:
        """Run one sync; failures are outcomes. With `force`, the import ignores failed gates. Raises SyncCancelledError."""
        try:
            offer = self.source.newest(self.model)
            self.report.registry_read(self.model, succeeded=True)
            if offer is None:
                return self._outcome("unchanged", None, "the registry names no version")
            return self._sync_offer(offer, by, force=force)
        except SourceError as error:
            self.report.registry_read(self.model, succeeded=False)
            return self._outcome("unreachable", None, str(error))
        except (OSError, GenerationError, PromotionError, ImportEnvironmentError) as error:
            return self._outcome("failed", None, str(error))

    def _sync_offer(self, offer: Offer, by: Trigger, *, force: bool) -> Outcome:
        try:
            version = self._store_name(offer)
        except ValueError as error:
            return self._outcome("rejected", None, str(error))
        try:
            return self._reconcile(offer, version, by, force=force)
        except ReplayedError as error:  # whoever replays an old entry must not have the version quarantined
            logger.warning("{} {} is not promoted: {}", self.model, version, error)
            return self._outcome("rejected", version, str(error))
        except RejectedError as error:
            self._put_in_quarantine(offer, version, error, by)
            return self._outcome("rejected", version, str(error))
        except ImportCancelledError:
            return self._cancelled(version)
        except UndecidedError as error:
            self.writer.record("undecided", self.model, version=version, by=by, reason=str(error))
            self.postponed.add(offer.digest, str(error))
            return self._undecided(offer, version)

    def _reconcile(self, offer: Offer, version: str, by: Trigger, *, force: bool) -> Outcome:
        generation = self.writer.generations().of(self.model)
        if generation.serving and generation.serving.version == version:
            return self._outcome("unchanged", version)
        if generation.cancelled and by == "operator":
            self.writer.change(lambda old: old.cancel(self.model, None))
        if blocked := self._blocked(offer, version):
            return blocked
        quarantined = self.writer.quarantine.find(self.model, version)
        if quarantined and quarantined.applies_to(offer.digest, self.signatures.identity(offer)) and not force:
            return self._outcome("rejected", version, quarantined.reason)
        if quarantined:
            self.writer.release(self.model, version, by)
        with self.report.metrics.count_failed_import(self.model):
            if self.writer.layout.version(self.model, version).is_dir():
                self._require_not_replayed(offer)
            else:
                if by != "operator" and self.postponed.seconds(offer.digest):
                    return self._undecided(offer, version)
                with self.cancellation.importing(version, offer.digest):
                    self._import(offer, version, by, force=force)
                # An import takes long: an operator may have pinned the model or rolled it back meanwhile.
                if blocked := self._blocked(offer, version):
                    self.report.metrics.imported(self.model, "cancelled")
                    return blocked
            outcome = self._promote(offer, version, by)
        self.report.metrics.imported(self.model, "promoted" if outcome.status == "promoted" else "cancelled")
        return outcome

    def _require_not_replayed(self, offer: Offer) -> None:
        """Raises ReplayedError for a version on disk that was signed before one that was accepted since.

        Its files are not fetched again. So a new signature counts only if the registry states the digests of its files.
        """
        if not self.signatures.enforced:
            return
        counters = SignatureCounters(self.writer.layout.signatures)
        try:
            counters.require_known(offer)
        except ReplayedError:
            files = self.source.files(offer)
            covered = [SignedFile(file.path, file.size, file.sha256) for file in files if file.sha256]
            if len(covered) < len(files):
                raise
            counters.require(offer, self.signatures.counter(offer))
            try:
                self.signatures.verify(offer, covered)
            except SignatureError as error:
                raise ReplayedError(str(error)) from error
            counters.record(offer, self.signatures.counter(offer))

    def _blocked(self, offer: Offer, version: str) -> Outcome | None:
        """The outcome if an operator keeps `version` from serving, else None."""
        generation = self.writer.generations().of(self.model)
        if generation.pinned:
            serving = generation.serving.version if generation.serving else FALLBACK
            at = "the fallback version" if serving == FALLBACK else serving
            return self._outcome("pinned", version, f"an operator pinned {self.model} to {at}")
        if version in generation.held:
            reason = f"{version} is held, because an operator left it; `unpin` or a newer version lifts the hold"
            return self._outcome("held", version, reason)
        if generation.cancelled and generation.cancelled.digest == offer.digest:
            return self._cancelled(version)
        return None

    def _cancelled(self, version: str) -> Outcome:
        reason = f"an operator cancelled the import of {version}; `sync {self.model}` imports it"
        return self._outcome("cancelled", version, reason)

    def _store_name(self, offer: Offer) -> str:
        """The name of the offer's version in the store. Raises ValueError if the registry's name cannot be used there.

        It is the registry's name, with a part of the digest if the store or the fallback has another version of that name.
        """
        name = to_store(offer.version)
        folder = self.writer.layout.version(self.model, name)
        is_taken = folder.is_dir() and registry_digest(folder) != offer.digest
        if is_taken or name == Manifest.read(self.fallback).version:
            return f"{name[: MAX_CHARACTERS - 9].rstrip('.-_')}-{offer.digest[:8]}"
        return name

    def _import(self, offer: Offer, version: str, by: Trigger, *, force: bool) -> None:
        logger.info("importing {} {} from {}", self.model, version, offer.uri)
        try:
            self._import_and_publish(offer, version, by, self._baseline(), force=force)
        except (DamagedArtifactError, VersionExistsError) as error:  # the files changed after the evaluation
            raise RejectedError(str(error)) from error

    def _baseline(self) -> Baseline:
        """The version that a registry chose and that serves; if the fallback serves, the one that served last.

        A version that an operator left for the fallback still is the measure. One in quarantine is not: it was found to be bad.
        Without any, the next version is the first one.
        """
        serving = self.writer.generations().of(self.model).serving
        served = [
            event.version for event in self.writer.history.read(self.model) if event.kind == "activated" and event.version
        ]
        for version in (*([serving.version] if serving else []), *reversed(served)):
            folder = self.writer.layout.version(self.model, version)
            if folder.is_dir() and not self.writer.quarantine.find(self.model, version):
                return Baseline(folder, chose=True)
        return Baseline(self.fallback, chose=False)

    def _import_and_publish(self, offer: Offer, version: str, by: Trigger, baseline: Baseline, *, force: bool) -> None:
        with (
            self.importer.bring(self.source, offer, version, baseline, force=force) as imported,
            self.report.phase(self.model, "publish"),
        ):
            self.writer.publish(
                imported.folder,
                offer.uri,
                by,
                digest_there=offer.digest,
                seconds=self.report.seconds(self.model),
                forced_past=imported.forced_past,
            )

    def _promote(self, offer: Offer, version: str, by: Trigger) -> Outcome:
        replaced = self.writer.generations().of(self.model).serving
        began = time.monotonic()

        def before_activation(target: Target) -> None:
            nonlocal began
            self.report.took(self.model, "prepare", time.monotonic() - began)
            self.before_activation(target)
            began = time.monotonic()

        with self.report.phase(self.model, "promote"):
            try:
                promote(self.writer, self.model, version, offer.uri, by, before_activation=before_activation, lifts_holds=True)
            except FailsLiveError as error:
                raise RejectedError(str(error), f"live_{error.limit}") from error
            except BadVersionError as error:
                raise RejectedError(str(error), "load") from error
            except PromotionError:
                if blocked := self._blocked(offer, version):  # which is why the promotion was given up
                    return blocked
                raise
            self.report.took(self.model, "activate", time.monotonic() - began)
        in_store = replaced if replaced and replaced.version != FALLBACK else None
        self.after_activation(in_store.version if in_store else Manifest.read(self.fallback).version)
        return self._outcome("promoted", version)

    def _put_in_quarantine(self, offer: Offer, version: str, error: RejectedError, by: Trigger) -> None:
        quarantined = Quarantined(
            model=self.model,
            version=version,
            digest=offer.digest,
            signature=self.signatures.identity(offer) if isinstance(error, SignatureError) else None,
            reason=str(error),
            at=datetime.now(UTC),
        )
        try:
            if self.writer.generations().of(self.model).paused == version:
                self.writer.change(lambda old: old.pause(self.model, None))
            self.writer.put_in_quarantine(quarantined, by, cause=error.cause)
        except OSError as failure:  # a full disk, for example: the version does not serve, and the next sync tries it again
            logger.error("{} {} cannot be put into quarantine: {}", self.model, version, failure)

    def _undecided(self, offer: Offer, version: str) -> Outcome:
        sentence, seconds = self.postponed.sentence(offer.digest), self.postponed.seconds(offer.digest)
        return Outcome(self.model, "undecided", version, sentence, retry_seconds=seconds)

    def _outcome(self, status: SyncStatus, version: str | None, reason: str | None = None) -> Outcome:
        return Outcome(self.model, status, version, reason)
