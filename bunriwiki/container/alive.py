"""The health check of a process that writes a file as a sign of life.

python3 -m bunriwiki.container.alive <file>
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

MAX_AGE_SECONDS = 60.0


def is_alive(path: Path, now: float) -> bool:
    """Whether the file at `path` was written in the minute before `now`, in seconds since the epoch."""
    try:
        return now - path.stat().st_mtime < MAX_AGE_SECONDS
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_alive(Path(sys.argv[1]), time.time()) else 1)
