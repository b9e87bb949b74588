"""Signatures of versions: what is signed, and how it is signed and verified. Ed25519, in base64 (see `envelope`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bunriwiki.artifacts.manifest import digest
from model_sync.envelope import BYTES, Envelope, Validity
from model_sync.errors import SignatureError
from model_sync.sources import MAX_SIGNATURE_CHARACTERS, Offer
from model_sync.sources.digests import digest_of

# So that signatures made for other purposes with the same key are not valid here.
FORMAT = "bunriwiki version 1"
FORMAT_WITH_VALIDITY = "bunriwiki version 2"


class SignedFile(NamedTuple):
    """A file that a signature covers: its path relative to the version's folder, its size in bytes, its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


def describe(folder: Path) -> tuple[SignedFile, ...]:
    """Every file below `folder`, hashed now. Raises OSError."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(SignedFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest(path)) for path in paths)


def signed_text(model: str, version: str, files: Iterable[SignedFile], validity: Validity | None = None) -> bytes:
    """The signed bytes: `[FORMAT_WITH_VALIDITY, model, version, digest, counter, expires]` as JSON without spaces.

    Without `validity`: `[FORMAT, model, version, digest]`. `digest` is the SHA-256, in hex, of `[[path, size, sha256], ...]` as
    JSON without spaces, sorted by path. Paths are compared exactly: neither Unicode nor letter case is normalised. The location
    is not signed, so the files may be copied.
    """
    digest_of_files = digest_of(sorted(files))
    content: list[object] = [FORMAT, model, version, digest_of_files]
    if validity:
        content = [FORMAT_WITH_VALIDITY, model, version, digest_of_files, validity.counter, validity.expires]
    return json.dumps(content, separators=(",", ":")).encode()


def sign(
    key: Ed25519PrivateKey, model: str, version: str, files: Iterable[SignedFile], validity: Validity | None = None
) -> str:
    """The signature as text. `version` is the registry's name for the version."""
    return str(Envelope(key.sign(signed_text(model, version, files, validity)), validity))


class Signatures:
    """Verifies versions by the signatures in their registries. Without keys, every version is accepted."""

    def __init__(self, keys: Sequence[Ed25519PublicKey] = (), now: Callable[[], float] = time.time) -> None:
        self._keys = tuple(keys)
        self._now = now

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Require a signature by one of the keys in these PEM files. Raises OSError and ValueError."""
        return cls([read_public_key(path) for path in paths])

    @property
    def enforced(self) -> bool:
        """Whether versions have to be signed."""
        return bool(self._keys)

    def require(self, offer: Offer) -> None:
        """Check that the offer carries a well-formed signature that has not expired, before anything is downloaded.

        Raises SignatureError. Only an import calls it: what is in the store goes on serving.
        """
        if not self._keys:
            return
        validity = _decode(offer).validity
        if validity and validity.expires <= self._now():
            raise SignatureError(f"the signature of {offer.model} {offer.version} has expired: sign the version again")

    def counter(self, offer: Offer) -> int:
        """The counter that the offer's signature states, unverified; 0 if it states none. Raises SignatureError."""
        validity = _decode(offer).validity
        return validity.counter if validity else 0

    def verify(self, offer: Offer, files: Iterable[SignedFile]) -> None:
        """Check that one of the keys signed this model and version with exactly these files. Raises SignatureError."""
        if not self._keys:
            return
        envelope = _decode(offer)
        text = signed_text(offer.model, offer.version, files, envelope.validity)
        if not any(_is_valid(key, envelope.signature, text) for key in self._keys):
            raise SignatureError(
                f"the signature of {offer.model} {offer.version} is for other content, or by a key that is not in "
                "BUNRIWIKI_PUBLIC_KEY: sign the files that are in the registry"
            )

    def identity(self, offer: Offer) -> str:
        """A digest of the offer's signature and the keys. When it changes, a rejected version is worth another attempt."""
        return digest_of([offer.signature, sorted(key.public_bytes_raw().hex() for key in self._keys)])


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM file. Raises OSError and ValueError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a PEM file with a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"the public key in {path} is not an Ed25519 key")
    return key


def _decode(offer: Offer) -> Envelope:
    if not offer.signature:
        raise SignatureError(
            f"{offer.model} {offer.version} has no signature, which BUNRIWIKI_PUBLIC_KEY requires: "
            "sign it with `python -m model_sync sign`, whose help says where the signature goes"
        )
    try:
        return Envelope.parse(offer.signature[: MAX_SIGNATURE_CHARACTERS + 1])
    except ValueError as error:
        raise SignatureError(
            f"the signature of {offer.model} {offer.version} is malformed: it should be {BYTES} bytes in base64, with a "
            "counter and an expiry before it, as `python -m model_sync sign` prints them"
        ) from error


def _is_valid(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
