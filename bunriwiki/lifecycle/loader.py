"""The interface through which a version is loaded into memory and unloaded."""

from __future__ import annotations

from typing import Protocol, TypeVar

ServableT_co = TypeVar("ServableT_co", covariant=True)


class Loader(Protocol[ServableT_co]):
    """Loads one version. Cheap to create; the work is done in its methods, which the manager calls one after the other.

    It calls `load`, then `warm_up`, and `unload` once the last handle is closed. If `load` or `warm_up` raises, the loader is
    dropped and the next try gets a new one.
    """

    def load(self) -> None:
        """Load the servable into memory."""
        ...

    def warm_up(self) -> None:
        """Make the first answer as fast as later ones, and check that it is right."""
        ...

    def unload(self) -> None:
        """Drop the servable and free its memory."""
        ...

    @property
    def servable(self) -> ServableT_co:
        """The loaded version. Valid between `load` and `unload`."""
        ...
