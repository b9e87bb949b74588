"""The garbage collector, set up on purpose in every process."""

from __future__ import annotations

import gc

YOUNG = 5_000  # objects made and not freed between two collections of the youngest generation
OLDER = (20, 50)  # collections of a generation between two of the next older one


def set_up_collector() -> None:
    """To be called when a process has loaded what it will keep.

    A collection of the oldest generation goes through every object there is while all requests wait: with the libraries that
    are loaded here, for some 100 ms. What is here now is put aside for good (`gc.freeze`), so it only goes through what came
    since.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *OLDER)
