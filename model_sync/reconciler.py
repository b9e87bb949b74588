"""One sync of one model: imports and promotes the version that the registry names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.generation import GenerationError, ModelGeneration, Target, Trigger
from bunriwiki.model_store.names import MAX_CHARACTERS, to_store
from bunriwiki.model_store.promotion import BadVersionError, FailsLiveError, PromotionError, promote
from bunriwiki.model_store.publication import VersionExistsError, registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.errors import ImportEnvironmentError, RejectedError, SignatureError, SourceError
from model_sync.importing.importer import Importer
from model_sync.signatures import Signatures
from model_sync.sources import Offer, Source
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome, SyncStatus

NO_SIGNATURES = Signatures()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Makes the version that the registry names serve. Not safe to use from several threads.

    `fallback` is the folder of the version that serves while no version of the store does. `before_activation` is called when
    every worker has loaded the new version, before it serves, and `after_activation` when it serves, with the version that it
    replaced. `signatures` are those that the importer requires.
    """

    model: str
    source: Source
    writer: StoreWriter
    importer: Importer
    report: Report
    fallback: Path
    before_activation: Callable[[Target], None] = lambda _: None
    after_activation: Callable[[str], None] = lambda _: None
    signatures: Signatures = NO_SIGNATURES

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
        except RejectedError as error:
            self._put_in_quarantine(offer, version, error, by)
            return self._outcome("rejected", version, str(error))

    def _reconcile(self, offer: Offer, version: str, by: Trigger, *, force: bool) -> Outcome:
        generation = self.writer.generations().of(self.model)
        if generation.serving and generation.serving.version == version:
            return self._outcome("unchanged", version)
        if blocked := self._blocked(generation, version):
            return blocked
        quarantined = self.writer.quarantine.find(self.model, version)
        if quarantined and self._applies_to(quarantined, offer) and not force:
            return self._outcome("rejected", version, quarantined.reason)
        if quarantined:
            self.writer.release(self.model, version, by)
        with self.report.metrics.count_failed_import(self.model):
            if not self.writer.layout.version(self.model, version).is_dir():
                self._import(offer, version, by, force=force)
                # An import takes long: an operator may have pinned the model or rolled it back meanwhile.
                if blocked := self._blocked(self.writer.generations().of(self.model), version):
                    self.report.metrics.imported(self.model, "cancelled")
                    return blocked
            self._promote(offer, version, by)
        self.report.metrics.imported(self.model, "promoted")
        if self.writer.generations().of(self.model).held:
            self.writer.change(lambda old: old.hold(self.model))
        return self._outcome("promoted", version)

    def _applies_to(self, quarantined: Quarantined, offer: Offer) -> bool:
        """Whether the reason applies to this offer: other files, or another signature where that was the reason, void it."""
        same_signature = quarantined.signature in {None, self.signatures.identity(offer)}
        return quarantined.digest == offer.digest and same_signature

    def _blocked(self, generation: ModelGeneration, version: str) -> Outcome | None:
        """The outcome if a pin or a hold keeps `version` from serving, else None."""
        if generation.pinned:
            serving = generation.serving.version if generation.serving else "the fallback version"
            return self._outcome("pinned", version, f"an operator pinned {self.model} to {serving}")
        if version in generation.held:
            reason = f"{version} is held since a rollback; `unpin` or a newer version lifts the hold"
            return self._outcome("held", version, reason)
        return None

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
        serving = self.writer.generations().of(self.model).serving
        baseline = self.writer.layout.version(self.model, serving.version) if serving else self.fallback
        try:
            self._import_and_publish(offer, version, by, baseline, force=force)
        except (DamagedArtifactError, VersionExistsError) as error:  # the files changed after the evaluation
            raise RejectedError(str(error)) from error

    def _import_and_publish(self, offer: Offer, version: str, by: Trigger, baseline: Path, *, force: bool) -> None:
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

    def _promote(self, offer: Offer, version: str, by: Trigger) -> None:
        replaced = self.writer.generations().of(self.model).serving
        began = time.monotonic()

        def before_activation(target: Target) -> None:
            nonlocal began
            self.report.took(self.model, "prepare", time.monotonic() - began)
            self.before_activation(target)
            began = time.monotonic()

        with self.report.phase(self.model, "promote"):
            try:
                promote(self.writer, self.model, version, offer.uri, by, before_activation=before_activation)
            except FailsLiveError as error:
                raise RejectedError(str(error), f"live_{error.limit}") from error
            except BadVersionError as error:
                raise RejectedError(str(error), "load") from error
            self.report.took(self.model, "activate", time.monotonic() - began)
        self.after_activation(replaced.version if replaced else Manifest.read(self.fallback).version)

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
            self.writer.put_in_quarantine(quarantined, by, cause=error.cause)
        except OSError as failure:  # a full disk, for example: the version does not serve, and the next sync tries it again
            logger.error("{} {} cannot be put into quarantine: {}", self.model, version, failure)

    def _outcome(self, status: SyncStatus, version: str | None, reason: str | None = None) -> Outcome:
        return Outcome(self.model, status, version, reason)
