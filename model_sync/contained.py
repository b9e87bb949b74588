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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from artifacts.programs import REFUSED, UNFIT

ROOT = Path(__file__).parent.parent
CODE = ("settings.py", "artifacts", "batching", "lifecycle", "model_store", "model_sync", "runners", "telemetry")
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")  # of the environment: no secrets
LOOK_EVERY = 0.05  # seconds
MOST_LINES = 10_000


class StoppedError(Exception):
    """The sidecar ends: nothing is known of what ran."""


class RefusingError(Exception):
    """The program says why a version must not serve."""


class UnfitError(Exception):
    """The program could not do its work, through no fault of the version. The message says what is wrong."""


class BrokeOffError(Exception):
    """The program did not come to its end: it died, or took too long. Whose fault that is, is not known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program may take: `memory` in bytes, `seconds` of the clock, `threads`."""

    memory: int
    seconds: float
    threads: int


def run_contained(
    command: Sequence[str | Path],
    *,
    writable: Path,
    readable: Sequence[Path],
    limits: Limits,
    stopping: threading.Event,
) -> list[dict[str, Any]]:
    """Run `command`, a Python with one of our programs, until it ends; what it told (`artifacts/programs.py`).

    It may write below `writable` only, and is started in the repository's root. What it started ends with it, but for what
    left it and its session behind; it ends with this thread. Raises RefusingError, UnfitError, BrokeOffError, StoppedError.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "model_sync.confine", _confinement(command, writable, readable, limits), *map(str, command)],
            cwd=ROOT,
            env=_environment(writable, limits.threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        told: list[dict[str, Any]] = []
        # It closes the pipe itself: what left the session behind may hold the other end for ever.
        reader = threading.Thread(target=_read, args=(process.stdout, told), daemon=True)
        reader.start()
        try:
            _wait(process, limits, stopping)
        finally:
            _end(process)
            reader.join(5)
        if stopping.is_set():
            raise StoppedError
        _judge(process.returncode, told, _last_words(errors.fileno()))
        return told


def _judge(code: int, told: list[dict[str, Any]], last_words: str) -> None:
    """Raises what the end of the program means."""
    last = told[-1] if told else {}
    if code == REFUSED and "refused" in last:
        raise RefusingError(_printable(str(last["refused"])))
    if code == UNFIT and "unfit" in last:
        raise UnfitError(_printable(str(last["unfit"])))
    if code == 0:
        return
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    if not told:
        raise UnfitError(f"the import could not begin: it {how}{last_words}")
    raise BrokeOffError(f"the import {how}{last_words}")


def _wait(process: subprocess.Popen[bytes], limits: Limits, stopping: threading.Event) -> None:
    end = time.monotonic() + limits.seconds
    while process.poll() is None:
        if stopping.wait(LOOK_EVERY):
            raise StoppedError
        if time.monotonic() > end:
            raise BrokeOffError(f"the import was not done after {limits.seconds:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(stream: IO[bytes], told: list[dict[str, Any]]) -> None:
    with stream:
        for line in stream:
            with contextlib.suppress(ValueError):  # something that writes past our programs' own standard output
                said = json.loads(line)
                if isinstance(said, dict) and len(told) < MOST_LINES:
                    told.append(said)


def _confinement(command: Sequence[str | Path], writable: Path, readable: Sequence[Path], limits: Limits) -> str:
    code = [ROOT / name for name in CODE]
    own = [*code, *_homes(Path(command[0])), *_homes(Path(sys.executable)), *readable]
    return json.dumps({"memory": limits.memory, "writable": [str(writable)], "readable": [str(path) for path in own]})


def _environment(writable: Path, threads: int) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "BENTOML_HOME"), str(writable)),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BUNRIWIKI_THREADS"), str(threads)),
        **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "BENTOML_DO_NOT_TRACK"), "true"),
        "BUNRIWIKI_MODEL_STORE": str(writable),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _last_words(descriptor: int) -> str:
    """The last line that a program wrote to its standard error, as an appendix."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 2000, max(0, size - 2000)).decode(errors="replace").strip()
    return f": {text.splitlines()[-1][:300]}" if text else ""


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:2000]


def _homes(python: Path) -> list[Path]:
    """Where an interpreter lies, its environment, and the one that this was made of."""
    return [python.absolute().parent.parent, python.resolve().parent.parent]
