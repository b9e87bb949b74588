"""Signatures of versions: what is signed, how, and how a version is held to its signature. Ed25519, in base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bunriwiki.artifacts.manifest import digest
from model_sync.errors import SignatureError
from model_sync.sources import Offer
from model_sync.sources.latest_model import digest_of

FORMAT = "bunriwiki version 1"  # so that a signature made for something else with the same key is none here
MLFLOW_TAG = "bunriwiki.signature"  # of a model version
BYTES = 64  # of every Ed25519 signature
MAX_CHARACTERS = 1000  # of what a registry gives as a signature; 88 are needed


class SignedFile(NamedTuple):
    """A file that a signature covers: its path relative to the version's folder, its size in bytes, its sha256 in hex."""

    path: str
    size: int
    sha256: str


def describe(folder: Path) -> tuple[SignedFile, ...]:
    """Every file below `folder`, as it lies there now. Raises OSError."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(SignedFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest(path)) for path in paths)


def signed_text(model: str, version: str, files: Iterable[SignedFile]) -> bytes:
    """What is signed: `[FORMAT, model, version, digest]` as JSON without spaces.

    `digest` is the sha256, in hex, of `[[path, size, sha256], ...]` as JSON without spaces, sorted by path. Paths are compared
    as they are: neither Unicode nor letter case is normalised. Where the files lie is not signed, so they may be copied.
    """
    return json.dumps([FORMAT, model, version, digest_of(sorted(files))], separators=(",", ":")).encode()


def sign(key: Ed25519PrivateKey, model: str, version: str, files: Iterable[SignedFile]) -> str:
    """The signature, in base64. `version` is the registry's name for the version."""
    return base64.b64encode(key.sign(signed_text(model, version, files))).decode()


class Signatures:
    """Holds versions to the signatures that their registries gave. With no key, every version may pass."""

    def __init__(self, keys: Sequence[Ed25519PublicKey] = ()) -> None:
        self._keys = tuple(keys)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Ask for a signature by any of the keys in these PEM files. Raises OSError and ValueError."""
        return cls([read_public_key(path) for path in paths])

    @property
    def asked_for(self) -> bool:
        """Whether versions have to be signed."""
        return bool(self._keys)

    def require(self, offer: Offer) -> None:
        """The offer carries what may be a signature: to be called before anything is fetched. Raises SignatureError."""
        if self._keys:
            _decode(offer)

    def verify(self, offer: Offer, files: Iterable[SignedFile]) -> None:
        """The signature is by one of the keys, and of this model and version with exactly these files.

        Raises SignatureError.
        """
        if not self._keys:
            return
        signature = _decode(offer)
        text = signed_text(offer.model, offer.version, files)
        if not any(_holds(key, signature, text) for key in self._keys):
            raise SignatureError(
                f"the signature of {offer.model} {offer.version} is of other content, or by a key that is not in "
                "BUNRIWIKI_PUBLIC_KEY: sign the version again as it lies in the registry"
            )

    def identity(self, offer: Offer) -> str:
        """A digest of the offer's signature and of the keys here: where it changes, a rejected signature may hold."""
        return digest_of([offer.signature, sorted(key.public_bytes_raw().hex() for key in self._keys)])


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key in a PEM file. Raises OSError, and ValueError where it is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no PEM file with a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} has a public key of another kind than Ed25519")
    return key


def _decode(offer: Offer) -> bytes:
    if not offer.signature:
        raise SignatureError(
            f"{offer.model} {offer.version} has no signature, which BUNRIWIKI_PUBLIC_KEY asks for: "
            "sign it with `python -m model_sync sign`, whose help says where the signature goes"
        )
    try:
        signature = base64.b64decode(offer.signature[: MAX_CHARACTERS + 1].strip(), validate=True)
    except ValueError:
        signature = b""
    if len(signature) != BYTES:
        raise SignatureError(
            f"what {offer.model} {offer.version} has as its signature is none: it should be {BYTES} bytes in base64, as "
            "`python -m model_sync sign` prints them"
        )
    return signature


def _holds(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
