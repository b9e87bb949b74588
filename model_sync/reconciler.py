"""One look at one model: what the registry offers, and what has to be done for it to serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.generation import GenerationError, ModelGeneration, Target, Trigger
from bunriwiki.model_store.names import MAX_CHARACTERS, to_store
from bunriwiki.model_store.promotion import BadVersionError, PromotionError, promote
from bunriwiki.model_store.publication import VersionExistsError, registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.errors import ImportEnvironmentError, RejectedError, SignatureError, SourceError
from model_sync.importing.importer import Importer
from model_sync.signatures import Signatures
from model_sync.sources import Offer, Source
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome, Verdict

NO_SIGNATURES = Signatures()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Brings one model to what its registry names. Not for several threads at once.

    `fallback` is the folder of the version that serves where none of the store does. `before_activation` is called when every
    worker has a new version. `signatures` are those that the importer asks for.
    """

    model: str
    source: Source
    writer: StoreWriter
    importer: Importer
    report: Report
    fallback: Path
    before_activation: Callable[[Target], None] = lambda _: None
    signatures: Signatures = NO_SIGNATURES

    def sync(self, by: Trigger, *, force: bool) -> Outcome:
        """Look, and do what is to be done. Raises SyncCancelledError only."""
        try:
            offer = self.source.newest(self.model)
            if offer is None:
                return self._outcome("unchanged", None, "the registry names no version")
            return self._take(offer, by, force=force)
        except SourceError as error:
            return self._outcome("unreachable", None, str(error))
        except (OSError, GenerationError, PromotionError, ImportEnvironmentError) as error:
            return self._outcome("failed", None, str(error))

    def _take(self, offer: Offer, by: Trigger, *, force: bool) -> Outcome:
        try:
            version = self._name(offer)
        except ValueError as error:
            return self._outcome("rejected", None, str(error))
        try:
            return self._follow(offer, version, by, force=force)
        except RejectedError as error:
            self._put_in_quarantine(offer, version, error, by)
            return self._outcome("rejected", version, str(error))

    def _follow(self, offer: Offer, version: str, by: Trigger, *, force: bool) -> Outcome:
        now = self.writer.generations().of(self.model)
        if now.serving and now.serving.version == version:
            return self._outcome("unchanged", version)
        if kept := self._kept(now, version):
            return kept
        bad = self.writer.quarantine.find(self.model, version)
        if bad and self._is_of(bad, offer) and not force:
            return self._outcome("rejected", version, bad.reason)
        if bad:
            self.writer.release(self.model, version, by)
        if not self.writer.layout.version(self.model, version).is_dir():
            self._import(offer, version, by, force=force)
            if kept := self._kept(self.writer.generations().of(self.model), version):  # imports take long
                return kept
        self._promote(offer, version, by)
        if self.writer.generations().of(self.model).held:
            self.writer.change(lambda old: old.hold(self.model))
        return self._outcome("promoted", version)

    def _is_of(self, bad: Quarantined, offer: Offer) -> bool:
        """Whether the reason of the quarantine is one against this offer, too."""
        return bad.digest == offer.digest and bad.signature in {None, self.signatures.identity(offer)}

    def _kept(self, now: ModelGeneration, version: str) -> Outcome | None:
        """The outcome where a person wants something else than `version`; None where nobody does."""
        if now.pinned:
            serving = now.serving.version if now.serving else "the fallback version"
            return self._outcome("pinned", version, f"a person holds {self.model} at {serving}")
        if version in now.held:
            reason = f"{version} was left by a rollback; it comes back with unpin or a newer version"
            return self._outcome("held", version, reason)
        return None

    def _name(self, offer: Offer) -> str:
        """The store's name for `offer`: the registry's, unless the store has something else under it. Raises ValueError."""
        name = to_store(offer.version)
        folder = self.writer.layout.version(self.model, name)
        taken = folder.is_dir() and registry_digest(folder) != offer.digest
        if taken or name == Manifest.read(self.fallback).version:
            # Published again under the same name: the old one serves until this one does.
            return f"{name[: MAX_CHARACTERS - 9].rstrip('.-_')}-{offer.digest[:8]}"
        return name

    def _import(self, offer: Offer, version: str, by: Trigger, *, force: bool) -> None:
        logger.info("{} {} is new: {}", self.model, version, offer.uri)
        serving = self.writer.generations().of(self.model).serving
        folder = self.writer.layout.version(self.model, serving.version) if serving else self.fallback
        try:
            self._bring(offer, version, by, folder, force=force)
        except (DamagedArtifactError, VersionExistsError) as error:  # it changed after it was tried
            raise RejectedError(str(error)) from error

    def _bring(self, offer: Offer, version: str, by: Trigger, folder: Path, *, force: bool) -> None:
        with (
            self.importer.bring(self.source, offer, version, folder, force=force) as imported,
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
        with self.report.phase(self.model, "swap"):
            try:
                promote(self.writer, self.model, version, offer.uri, by, before_activation=self.before_activation)
            except BadVersionError as error:
                raise RejectedError(str(error)) from error

    def _put_in_quarantine(self, offer: Offer, version: str, why: RejectedError, by: Trigger) -> None:
        one = Quarantined(
            model=self.model,
            version=version,
            digest=offer.digest,
            signature=self.signatures.identity(offer) if isinstance(why, SignatureError) else None,
            reason=str(why),
            at=datetime.now(UTC),
        )
        try:
            self.writer.put_in_quarantine(one, by)
        except OSError as error:  # a full disk: it does not serve all the same, and is tried again
            logger.error("{} {} cannot be put into quarantine: {}", self.model, version, error)

    def _outcome(self, status: Verdict, version: str | None, reason: str | None = None) -> Outcome:
        return Outcome(self.model, status, version, reason)
