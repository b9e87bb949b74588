"""How a version gets into memory and out of it."""

from __future__ import annotations

from typing import Protocol, TypeVar

ServableT_co = TypeVar("ServableT_co", covariant=True)


class Loader(Protocol[ServableT_co]):
    """Cheap to make; all that costs happens in its methods, which the manager calls one after the other:

    `load`, then `warm_up`, then, when nobody uses the servable any more, `unload`. After a `load` or a `warm_up` that raised, a
    new loader is made for the next try and this one is dropped.
    """

    def load(self) -> None:
        """Bring the servable into memory."""
        ...

    def warm_up(self) -> None:
        """Make the first answer as fast as the next ones, and see that it is right."""
        ...

    def unload(self) -> None:
        """Let go of the servable and give its memory back."""
        ...

    @property
    def servable(self) -> ServableT_co:
        """What answers. Only between `load` and `unload`."""
        ...
