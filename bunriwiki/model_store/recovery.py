"""What a new writer does first: it cleans up after a writer that died, and completes the history."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from bunriwiki.model_store.generation import GenerationError, ModelGeneration
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.publication import forced_past

if TYPE_CHECKING:
    from bunriwiki.model_store.writer import StoreWriter


def recover(writer: StoreWriter) -> None:
    """Delete what a dead writer left unfinished, and record what it did not record.

    Raises GenerationError if `generation.yaml` is missing although versions have served: a new one would take every model back
    to its fallback version.
    """
    layout = writer.layout
    if not layout.generation.exists() and any(event.kind == "activated" for event in writer.history.read()):
        raise GenerationError(
            f"{layout.generation} is missing, though versions have served. Restore it, or delete {layout.history} to start "
            "again with the fallback versions"
        )
    _delete_leftovers(layout)
    writer.heartbeats.tidy()
    for model, versions in layout.published().items():
        for version in versions:
            past = forced_past(layout.version(model, version))
            writer.record_publication(model, version, past, reason="found in the store")
    for model, generation in writer.generations().models.items():
        _recover_generation(writer, model, generation)


def _delete_leftovers(layout: Layout) -> None:
    """Delete versions that were being published or removed, half-written files, and empty folders of models."""
    for folder in layout.staging.iterdir():
        shutil.rmtree(folder, ignore_errors=True)
    for half_written in (
        *layout.root.glob(".*.yaml.*"),
        *layout.root.glob(".sync.json.*"),
        *layout.quarantine.glob("*/.*.yaml.*"),
    ):
        half_written.unlink(missing_ok=True)
    for folder in layout.models.iterdir():
        if folder.is_dir() and not layout.versions(folder.name):
            with contextlib.suppress(OSError):  # BentoML may have left a file there
                folder.rmdir()


def _recover_generation(writer: StoreWriter, model: str, generation: ModelGeneration) -> None:
    recorded = max((event.generation or 0 for event in writer.history.read(model)), default=0)
    if generation.serving and recorded < generation.generation:
        writer.record_activation(model, generation, reason="found in generation.yaml")
    if generation.preparing:
        writer.change(lambda old: old.prepare(model, None))
        reason = "its writer ended before it was prepared"
        writer.record("abandoned", model, version=generation.preparing.version, reason=reason)
    if generation.serving and generation.serving.version in generation.held:  # the rollback did not happen
        held = [version for version in generation.held if version != generation.serving.version]
        writer.change(lambda old: old.hold(model, *held))
