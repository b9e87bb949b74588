"""Decides which versions may be deleted, by a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bunriwiki.model_store.generation import ModelGeneration
from bunriwiki.model_store.heartbeats import Heartbeat

KEPT = 3  # versions of each model


def removable(
    versions: Sequence[str], generation: ModelGeneration, workers: Iterable[Heartbeat], model: str, keep: int = KEPT
) -> list[str]:
    """Those of `versions` (of one model, oldest first) that may be deleted; the newest `keep` are kept.

    Also kept are the serving, previous, preparing and held versions, and every version that a live worker has in memory.
    """
    targets = (generation.serving, generation.previous, generation.preparing)
    needed = {target.version for target in targets if target} | set(generation.held)
    for worker in workers:
        if worker.role == model:
            needed |= worker.loaded.keys()
    old = versions[: max(0, len(versions) - keep)]
    return [version for version in old if version not in needed]
