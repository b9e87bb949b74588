"""Signing a version where it is not published with `publish`: for MLflow, for a folder, and for S3 with other tools."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict

from bunriwiki.artifacts.manifest import digest
from model_sync.errors import PublishError
from model_sync.publishing import require_name
from model_sync.signatures import SignedFile, describe, sign
from model_sync.sources.local import SIGNATURE


class Signed(BaseModel):
    """A signature, and what it covers. `uri` is the version in MLflow that carries it now; None where none was asked to."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    files: tuple[SignedFile, ...]
    signature: str
    uri: str | None = None


def sign_path(model: str, path: Path, version: str, key: Ed25519PrivateKey) -> Signed:
    """Sign the file or folder at `path` as `version` of `model`: all files, also hidden ones, but a `signature` of its own.

    Raises PublishError.
    """
    require_name(model, version)
    try:
        files = _files(path)
    except OSError as error:
        raise PublishError("failed", f"{path} cannot be read: {error}.") from error
    if not files:
        raise PublishError("rejected", f"There is no file in {path}.")
    return Signed(model=model, version=version, files=files, signature=sign(key, model, version, files))


def _files(path: Path) -> tuple[SignedFile, ...]:
    if path.is_file():
        return (SignedFile(path.name, path.stat().st_size, digest(path)),)
    if not path.is_dir():
        raise PublishError("failed", f"{path} does not exist.")
    return tuple(file for file in describe(path) if file.path != SIGNATURE)
