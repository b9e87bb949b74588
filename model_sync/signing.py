"""Signing a version that `publish` does not upload: in MLflow, in a folder, and in S3 with other tools."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict

from bunriwiki.artifacts.manifest import digest
from model_sync.envelope import DEFAULT_DAYS, Validity
from model_sync.errors import PublishError
from model_sync.publishing.names import require_name
from model_sync.signatures import SignedFile, describe, sign
from model_sync.sources.local import SIGNATURE


class Signed(BaseModel):
    """A signature and the files that it covers. `uri` is the MLflow version that was tagged with it; None if none was."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    files: tuple[SignedFile, ...]
    signature: str
    uri: str | None = None


def read_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in a PEM file without a password. Raises PublishError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise PublishError("settings", f"{path} is not a PEM file with an unencrypted private key: {error}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PublishError("settings", f"The private key in {path} is not an Ed25519 key.")
    return key


def sign_path(model: str, path: Path, version: str, key: Ed25519PrivateKey, days: float = DEFAULT_DAYS) -> Signed:
    """Sign the file or folder at `path` as `version` of `model`: all files, also hidden ones, except the file `signature`.

    An import accepts the signature for `days`.

    Raises PublishError.
    """
    require_name(model, version)
    try:
        files = _files(path)
    except OSError as error:
        raise PublishError("failed", f"{path} cannot be read: {error}.") from error
    if not files:
        raise PublishError("rejected", f"There is no file in {path}.")
    signature = sign(key, model, version, files, Validity.from_now(days))
    return Signed(model=model, version=version, files=files, signature=signature)


def _files(path: Path) -> tuple[SignedFile, ...]:
    if path.is_file():
        return (SignedFile(path.name, path.stat().st_size, digest(path)),)
    if not path.is_dir():
        raise PublishError("failed", f"{path} does not exist.")
    return tuple(file for file in describe(path) if file.path != SIGNATURE)
