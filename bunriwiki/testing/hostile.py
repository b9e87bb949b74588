"""A checkpoint that runs code when it is unpickled."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any


class _WritesFile:
    """Pickled, it is a call: unpickling it writes the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self._path)!r}, 'w').write('harm')",)


def hostile_checkpoint(harm: Path) -> bytes:
    """A `.pt` as torch saves it, that writes the file `harm` when it is unpickled."""
    import torch  # noqa: PLC0415

    stream = io.BytesIO()
    torch.save({"model": _WritesFile(harm)}, stream, pickle_module=pickle)
    return stream.getvalue()
