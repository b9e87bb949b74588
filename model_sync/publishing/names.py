"""The names that a version may be published or signed under."""

from __future__ import annotations

from bunriwiki.model_store.names import to_store
from model_sync.errors import PublishError


def require_name(model: str, version: str) -> None:
    """Check that the store can hold `version`, and that it can be a folder in S3. Raises PublishError."""
    try:
        to_store(version)
    except ValueError as error:
        raise PublishError("rejected", f"Choose another version name: {error}.") from error
    if "/" in version or version in {".", ".."} or not version.isprintable() or version != version.strip():
        raise PublishError(
            "rejected",
            f"{version!r} is not a valid version name for {model}: use no slashes, control characters or outer spaces.",
        )
