"""A registry without a network, and an importer that packs what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_sync.errors import RejectedError
from model_sync.importing.importer import Imported
from model_sync.sources import Offer, RemoteFile, Source

URI = "fake://bucket"


def offer(version: str = "v1", digest: str = "d1", model: str = "kcbert") -> Offer:
    return Offer(model=model, version=version, digest=digest, uri=f"{URI}/{version}")


@dataclass
class FakeSource:
    """Offers `offers` by model; an exception among them is raised."""

    offers: dict[str, Offer | Exception] = field(default_factory=dict)
    asked: int = 0

    def newest(self, model: str) -> Offer | None:
        self.asked += 1
        found = self.offers.get(model)
        if isinstance(found, Exception):
            raise found
        return found

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        raise NotImplementedError

    def download(self, offer: Offer, file: RemoteFile, part: Path) -> None:
        raise NotImplementedError


@dataclass
class FakeImporter:
    """Gives the folder that `made` has for a version; rejects what `rejects` has, unless it is forced past it."""

    made: dict[str, Path]
    rejects: dict[str, str] = field(default_factory=dict)
    raises: Exception | None = None
    brought: list[tuple[str, Path]] = field(default_factory=list)

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, serving: Path, *, force: bool) -> Iterator[Imported]:
        self.brought.append((version, serving))
        if self.raises:
            raise self.raises
        reason = self.rejects.get(offer.digest)
        if reason and not force:
            raise RejectedError(reason)
        yield Imported(self.made[version], reason)
