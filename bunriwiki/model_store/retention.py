"""Which versions may be deleted: a pure function of what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bunriwiki.model_store.generation import ModelGeneration
from bunriwiki.model_store.heartbeats import Heartbeat

KEPT = 3


def removable(
    versions: Sequence[str], generation: ModelGeneration, workers: Iterable[Heartbeat], model: str, keep: int = KEPT
) -> list[str]:
    """Those of `versions` (of one model, the oldest first) that can go so that the newest `keep` stay.

    Never what serves (pinned or not), what served before it, what is to serve, what a rollback left (it is known by its name as
    long as it lies here), nor what any live worker has in memory.
    """
    targets = (generation.serving, generation.previous, generation.preparing)
    needed = {target.version for target in targets if target} | set(generation.held)
    for worker in workers:
        if worker.role == model:
            needed |= worker.loaded.keys()
    old = versions[: max(0, len(versions) - keep)]
    return [version for version in old if version not in needed]
