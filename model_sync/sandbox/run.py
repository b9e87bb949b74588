"""Run a program that handles other people's files in a sandbox (`bunriwiki/sandbox/`), and hold it to its limits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.programs import ENVIRONMENT_ERROR, REJECTED
from bunriwiki.sandbox.policy import Policy
from model_sync.errors import (
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
    ReportedEnvironmentError,
    SyncCancelledError,
)
from model_sync.sandbox.cgroup import Cgroup, open_cgroup
from model_sync.sandbox.handover import hand_over, take_back
from model_sync.sandbox.output import Output, printable
from model_sync.sandbox.usage import Ceilings, Meter, ScarceError, TooMuchError, family
from model_sync.sandbox.users import lend_user

ROOT = Path(__file__).parent.parent.parent
CODE = ("bunriwiki", "model_sync", "runners")
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")  # of the environment: no secrets
POLL_SECONDS = 0.05  # seconds
OPEN_FILES = 1024
MB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program may take.

    `memory` in bytes, `seconds` of the clock, `threads` for its computations; bytes (`disk`) and number (`files`) of what it
    writes; bytes that have to stay free on that disk (`reserve`); `tasks`, which are processes and threads of any kind.
    `user` and `cgroup` choose how it is held: see `users.py` and `cgroup.py`.
    """

    memory: int
    seconds: float
    threads: int
    disk: int = 8192 * MB
    files: int = 20_000
    reserve: int = 512 * MB
    tasks: int = 512
    user: str = "auto"
    cgroup: str = "auto"


def run_sandboxed(
    command: Sequence[str | Path],
    *,
    writable: Path,
    readable: Sequence[Path],
    limits: Limits,
    stopping: threading.Event,
    keep: tuple[int, ...] = (),
) -> list[dict[str, Any]]:
    """Run `command`, a Python with one of our programs, until it ends; what it told (`bunriwiki/artifacts/programs.py`).

    It may write below `writable` only, inherits the descriptors in `keep`, and is started in the repository's root. What it
    started ends with it; it ends with this thread. Raises RejectedError, ImportEnvironmentError, ImportCrashedError,
    SyncCancelledError.
    """
    policy = replace(_policy(command, writable, readable, limits), keep=keep)
    try:
        with (
            lend_user(limits.user) as user,
            open_cgroup(limits.cgroup, memory=limits.memory, tasks=limits.tasks) as group,
        ):
            if user is not None:
                hand_over(writable, user)
                policy = replace(policy, user=user, tasks=limits.tasks)
            policy = replace(policy, cgroups=tuple(map(str, group.folders)))
            return _run(command, policy, group, limits, stopping)
    finally:  # nothing of it runs any more
        take_back(writable)


def _run(
    command: Sequence[str | Path], policy: Policy, group: Cgroup, limits: Limits, stopping: threading.Event
) -> list[dict[str, Any]]:
    writable = Path(policy.writable[0])
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "bunriwiki.sandbox", policy.to_json(), *map(str, command)],
        cwd=ROOT,
        env=_environment(writable, limits.threads),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=policy.keep,
    )
    output = Output(process)
    meter = Meter(process.pid, writable, Ceilings(limits.memory, limits.tasks, limits.disk, limits.files, limits.reserve))
    try:
        _wait(process, meter, output, limits, stopping)
        meter.check_disk()
    except TooMuchError as error:  # greedy, or more than this machine was set up for: whose fault that is, is not known
        raise ImportCrashedError(str(error)) from error
    except ScarceError as error:
        raise ImportEnvironmentError(str(error)) from error
    finally:
        _end(process)
        output.join()
    if stopping.is_set():
        raise SyncCancelledError
    _judge(process.returncode, output, out_of_memory=group.out_of_memory())
    return output.messages


def _judge(code: int, output: Output, *, out_of_memory: bool) -> None:
    """Raises what the end of the program means."""
    last = output.messages[-1] if output.messages else {}
    if code == REJECTED and "rejected" in last:
        raise RejectedError(printable(str(last["rejected"])))
    if code == ENVIRONMENT_ERROR and "environment_error" in last:
        raise ReportedEnvironmentError(printable(str(last["environment_error"])))
    if code == 0:
        return
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    if out_of_memory:
        how += ", out of memory"
    if not output.messages:
        raise ImportEnvironmentError(f"the import could not begin: it {how}{output.last_words()}")
    raise ImportCrashedError(f"the import {how}{output.last_words()}")


def _wait(process: subprocess.Popen[bytes], meter: Meter, output: Output, limits: Limits, stopping: threading.Event) -> None:
    end = time.monotonic() + limits.seconds
    while not _has_ended(process):
        if stopping.wait(POLL_SECONDS):
            raise SyncCancelledError
        if time.monotonic() > end:
            raise ImportCrashedError(f"the import was not done after {limits.seconds:g} s")
        if output.too_much:
            raise TooMuchError("the import wrote too much to its standard output")
        meter.check()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Its number stays its own until `_end` has done with it: nobody else's process is killed in its place."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with its children and its session. What else there may be ends with the control group, and with the user."""
    for one in family(process.pid)[::-1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _policy(command: Sequence[str | Path], writable: Path, readable: Sequence[Path], limits: Limits) -> Policy:
    code = [ROOT / name for name in CODE]
    own = [*code, *_homes(Path(command[0])), *_homes(Path(sys.executable)), *readable]
    return Policy(
        readable=tuple(map(str, own)),
        writable=(str(writable),),
        memory=limits.memory,
        file_size=limits.disk,
        open_files=OPEN_FILES,
        low_priority=True,
    )


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


def _homes(python: Path) -> list[Path]:
    """Where an interpreter lies, its environment, and the one that this was made of."""
    return [python.absolute().parent.parent, python.resolve().parent.parent]
