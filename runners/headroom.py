"""Whether a version fits into memory beside the one that serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bunriwiki.container.limits import Memory, memory

# What a loaded version takes, as a multiple of its files: 2.4 to 3.6 for the bundled ones. Weights are stored in half precision
# and computed in single precision, and each version has buffers of its own.
BYTES_PER_FILE_BYTE = 4

ServableT = TypeVar("ServableT")


class NotEnoughMemoryError(Exception):
    """A version does not fit into the memory that the control group has left."""


def beside_serving(
    open_version: Callable[[Path], ServableT], state: Callable[[], Memory | None] = memory
) -> Callable[[Path], ServableT]:
    """`open_version`, which raises NotEnoughMemoryError if the version does not fit beside what is in memory.

    Otherwise the kernel would kill a worker while both versions are in memory. `state` returns the memory of the control group;
    None: it has no limit.
    """

    def open_beside(folder: Path) -> ServableT:
        found = state()
        needed = BYTES_PER_FILE_BYTE * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if found is not None and needed > found.free:
            raise NotEnoughMemoryError(
                f"{folder.name} needs about {_mb(needed)} MB beside the serving version, and {_mb(found.free)} MB of this "
                f"container's {_mb(found.limit)} MB are free: raise its memory limit"
            )
        return open_version(folder)

    return open_beside


def _mb(number: int) -> int:
    return number // 2**20
