from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Policy:
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    memory: int = 0
    low_priority: bool = False
    user: int | None = None
    keep: tuple[int, ...] = ()
    listen: str | None = None
    devices: tuple[Path, ...] = ()

    def to_json(self) -> str:
        return json.dumps({**self.__dict__}, default=str)
