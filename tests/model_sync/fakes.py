"""A registry without a network, and an importer that returns prepared versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_sync.errors import RejectedError
from model_sync.importing.importer import Baseline, Imported
from model_sync.sources import Offer, RemoteFile, Source

URI = "fake://bucket"


def offer(version: str = "v1", digest: str = "d1", model: str = "kcbert") -> Offer:
    return Offer(model=model, version=version, digest=digest, uri=f"{URI}/{version}")


@dataclass
class FakeSource:
    """Offers what `offers` has for a model; raises it if it is an exception."""

    offers: dict[str, Offer | Exception] = field(default_factory=dict)

    def newest(self, model: str) -> Offer | None:
        offered = self.offers.get(model)
        if isinstance(offered, Exception):
            raise offered
        return offered

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        raise NotImplementedError

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        raise NotImplementedError


@dataclass
class FakeImporter:
    """Yields the folder that `made` has for a version. Rejects the digests in `rejects` for the reason there, unless forced."""

    made: dict[str, Path]
    rejects: dict[str, str] = field(default_factory=dict)
    raises: Exception | None = None
    brought: list[tuple[str, Baseline]] = field(default_factory=list)

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, baseline: Baseline, *, force: bool) -> Iterator[Imported]:
        self.brought.append((version, baseline))
        if self.raises:
            raise self.raises
        reason = self.rejects.get(offer.digest)
        if reason and not force:
            raise RejectedError(reason)
        yield Imported(self.made[version], reason)
