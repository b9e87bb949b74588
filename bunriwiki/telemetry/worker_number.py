"""The number of a worker among those of its role."""

from __future__ import annotations

from bentoml._internal.context import server_context


def worker_number() -> int:
    """The number of this worker in its role, from 0.

    circus, which starts the workers, gives a new one the lowest number that no worker of the role has (its `wid`). So the
    replacement of a dead worker gets the number of the dead one.
    """
    return (server_context.worker_index or 1) - 1
