"""Model stores as an earlier run of the sidecar left them."""

from __future__ import annotations

from pathlib import Path

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from model_sync.sources import Offer

SOURCE = "an earlier sync"


def serve_from_store(store: Path, folder: Path, offer: Offer | None = None) -> None:
    """Publish the version in `folder` to the store at `store`, and have it serve.

    With `offer` it is the version that a registry offers, so that a sync finds it unchanged.
    """
    manifest = Manifest.read(folder)
    source = offer.uri if offer else SOURCE
    with open_writer(store, "a test") as writer:
        writer.publish(folder, source, "poll", digest_there=offer.digest if offer else None)
        promote(writer, manifest.model, manifest.version, source, "poll")
