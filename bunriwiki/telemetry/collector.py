"""The settings of the garbage collector, for every process."""

from __future__ import annotations

import gc

YOUNG = 5_000  # objects allocated and not freed between two collections of the youngest generation
OLDER = (20, 50)  # collections of a generation between two of the next older one


def set_up_collector() -> None:
    """Configure the collector. Call it once the process has loaded what it keeps.

    A collection of the oldest generation visits every object while all requests wait: with the libraries that are loaded here,
    for some 100 ms. `gc.freeze` excludes the objects that exist now, so only those created later are visited.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *OLDER)
