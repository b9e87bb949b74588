"""The highest counter of a verified signature of each model, in the store: an older signature is a replay."""

from __future__ import annotations

import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.model_store.files import write_atomically
from model_sync.errors import ImportEnvironmentError, ReplayedError
from model_sync.sources import Offer

MAX_REMEMBERED = 1000  # offers of a model whose counters are remembered


class _ModelCounters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    highest: int = Field(default=0, ge=0)
    offers: dict[str, int] = Field(default_factory=dict, description="By the digest of an offer: its verified counter.")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, _ModelCounters] = Field(default_factory=dict)


class SignatureCounters:
    """The counters in the file at `path`. Safe to use from many threads; only the sidecar writes it.

    A signature without a counter has the counter 0: it is accepted until a signature with one was. While the file is damaged,
    no version is accepted, because a replay could not be told: every method raises ImportEnvironmentError.
    """

    _changing = threading.Lock()  # of all instances: the models are synced in parallel

    def __init__(self, path: Path) -> None:
        self._path = path

    def require(self, offer: Offer, counter: int) -> None:
        """Raises ReplayedError if a signature of the model with a higher counter was verified before."""
        highest = self._read().models.get(offer.model, _ModelCounters()).highest
        if counter < highest:
            raise ReplayedError(
                f"the signature of {offer.model} {offer.version} is older (counter {counter}) than one that was accepted "
                f"before (counter {highest}): to go back to this version, sign it again, or use `rollback {offer.model}`"
            )

    def require_known(self, offer: Offer) -> None:
        """The same for a version on disk, by the counter that was verified when it was imported. Raises ReplayedError."""
        known = self._read().models.get(offer.model, _ModelCounters())
        self.require(offer, known.offers.get(offer.digest, 0))

    def record(self, offer: Offer, counter: int) -> None:
        """Remember a verified signature, durably. Raises OSError."""
        with self._changing:
            file = self._read()
            known = file.models.get(offer.model, _ModelCounters())
            latest = max(counter, known.offers.get(offer.digest, 0))
            offers = {**{digest: seen for digest, seen in known.offers.items() if digest != offer.digest}, offer.digest: latest}
            kept = dict(list(offers.items())[-MAX_REMEMBERED:])
            changed = _ModelCounters(highest=max(known.highest, counter), offers=kept)
            new = _File(models={**file.models, offer.model: changed})
            write_atomically(self._path, new.model_dump_json())

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _File()
        except (OSError, ValidationError) as error:
            raise ImportEnvironmentError(
                f"{self._path} cannot be read ({type(error).__name__}): restore it, or delete it to accept any counter again"
            ) from error
