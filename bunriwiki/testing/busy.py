"""A machine that is busy with other things.

python -m bunriwiki.testing.busy COMMAND...

Runs the command while every core is busy, and exits with its code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy, with a process for each, until the end of the `with` block."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    with busy_cores():
        code = subprocess.run(sys.argv[1:], check=False).returncode
    sys.exit(code)
