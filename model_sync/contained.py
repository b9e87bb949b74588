"""Run a program that handles other people's files in a process of its own, which can do little harm (`confine.py`)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "COVERAGE_PROCESS_START")  # of the environment: no secrets
LOOK_EVERY = 0.05  # seconds


class StoppedError(Exception):
    """The sidecar ends: nothing is known of what ran."""


class BrokeOffError(Exception):
    """The program did not come to its end. The message says why: its time, its memory, or how it died."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program may take: `memory` in bytes, `seconds` of the clock, `threads`."""

    memory: int
    seconds: float
    threads: int


def run_contained(
    command: Sequence[str | Path],
    *,
    scratch: Path,
    readable: Sequence[Path],
    limits: Limits,
    stopping: threading.Event,
    on_line: Callable[[str], None] = lambda _: None,
) -> int:
    """Run `command` (a Python first) from the repository's root until it ends; the exit code.

    It may write below `scratch` only. `on_line` gets each line that it prints. All that it started ends with it, and it ends
    with this thread. Raises BrokeOffError and StoppedError.
    """
    python = Path(command[0])
    own = [ROOT, *_homes(python), *_homes(Path(sys.executable)), *readable]
    confinement = {
        "memory": limits.memory,
        "writable": [str(scratch)],
        "readable": [str(path) for path in own],
    }
    threads = str(limits.threads)
    environment = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "BENTOML_HOME"), str(scratch)),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BUNRIWIKI_THREADS"), threads),
        **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "BENTOML_DO_NOT_TRACK"), "true"),
        "BUNRIWIKI_MODEL_STORE": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "model_sync.confine", json.dumps(confinement), *map(str, command)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101
        reader = threading.Thread(target=_read, args=(process.stdout, on_line), daemon=True)
        reader.start()
        try:
            _wait(process, limits, stopping)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it may have started, too
            process.wait()
            reader.join(5)
            process.stdout.close()
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            raise BrokeOffError(f"the process died of {name}{_last_words(errors.fileno())}")
        if process.returncode == 1:
            raise BrokeOffError(f"the process failed{_last_words(errors.fileno())}")
        return process.returncode


def _wait(process: subprocess.Popen[str], limits: Limits, stopping: threading.Event) -> None:
    end = time.monotonic() + limits.seconds
    while process.poll() is None:
        if stopping.wait(LOOK_EVERY):
            raise StoppedError
        if time.monotonic() > end:
            raise BrokeOffError(f"it was not done after {limits.seconds:g} s")


def _read(stream: object, on_line: Callable[[str], None]) -> None:
    for line in stream:  # type: ignore[attr-defined]
        on_line(line.rstrip("\n"))


def _last_words(descriptor: int) -> str:
    """The last line that a program wrote to its standard error, as an appendix."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 2000, max(0, size - 2000)).decode(errors="replace").strip()
    return f": {text.splitlines()[-1][:300]}" if text else ""


def _homes(python: Path) -> list[Path]:
    """Where an interpreter lies, its environment, and the one that this was made of."""
    return [python.absolute().parent.parent, python.resolve().parent.parent]
