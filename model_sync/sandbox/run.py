"""Runs a program that handles third-party files in the sandbox (`bunriwiki/sandbox/`), and enforces its limits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.programs import ENVIRONMENT_ERROR, REJECTED
from bunriwiki.sandbox.policy import Policy, interpreter_folders
from bunriwiki.telemetry.cpu import CpuTime
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
from model_sync.sandbox.timeouts import check_cause
from model_sync.sandbox.usage import DiskFullError, LimitExceededError, UsageLimits, UsageMeter, process_tree
from model_sync.sandbox.users import reserve_user

ROOT = Path(__file__).parent.parent.parent
CODE = ("bunriwiki", "model_sync", "runners")
VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")  # the allow-list of the environment: no secrets
POLL_SECONDS = 0.05
OPEN_FILES = 1024
MB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program may use.

    `memory` in bytes; `seconds` of elapsed time; `threads` for its computations; `disk`, bytes, and `files`, number, of what it
    writes; `reserve`, bytes that must stay free on that disk; `tasks`, processes and threads of any kind. `user` and `cgroup`
    choose how these are enforced: see `users.py` and `cgroup.py`.
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
    on_start: Callable[[int], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Run `command`, a Python interpreter with one of our programs, and return its messages.

    `bunriwiki/artifacts/programs.py` defines them. The program may read the code, the Python environments and `readable`, write
    below `writable` only, and inherits the descriptors in `keep`. Its working directory is the repository's root. It is killed
    when this thread ends; its descendants are killed when it ends. `on_start` is called with its process id.

    Raises RejectedError and ReportedEnvironmentError with what it reported; ImportEnvironmentError if it could not start, or if
    the disk is almost full; ImportCrashedError if it crashed or exceeded a limit; UndecidedError if it timed out because the
    machine is busy; SyncCancelledError once `stopping` is set.
    """
    policy = replace(_policy(command, writable, readable, limits), keep=keep)
    try:
        with (
            reserve_user(limits.user) as user,
            open_cgroup(limits.cgroup, memory=limits.memory, tasks=limits.tasks) as group,
        ):
            if user is not None:
                hand_over(writable, user)
                policy = replace(policy, user=user, tasks=limits.tasks)
            policy = replace(policy, cgroups=tuple(map(str, group.folders)))
            return _run(command, policy, group, limits, stopping, on_start=on_start)
    finally:  # all of its processes have ended
        take_back(writable)


def _run(
    command: Sequence[str | Path],
    policy: Policy,
    group: Cgroup,
    limits: Limits,
    stopping: threading.Event,
    *,
    on_start: Callable[[int], object],
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
    on_start(process.pid)
    output = Output(process)
    usage_limits = UsageLimits(limits.memory, limits.tasks, limits.disk, limits.files, limits.reserve)
    meter = UsageMeter(process.pid, writable, usage_limits)
    try:
        _wait(process, meter, output, limits, stopping)
        meter.check_disk()
    except LimitExceededError as error:  # the version may be greedy, or the limit too low: the cause is unknown
        raise ImportCrashedError(str(error)) from error
    except DiskFullError as error:
        raise ImportEnvironmentError(str(error)) from error
    finally:
        _kill(process)
        output.join()
    if stopping.is_set():
        raise SyncCancelledError
    _raise_failure(process.returncode, output, out_of_memory=group.out_of_memory())
    return output.messages


def _raise_failure(code: int, output: Output, *, out_of_memory: bool) -> None:
    """Raise the error that the exit code and the last message of the program stand for; return if it succeeded."""
    last = output.messages[-1] if output.messages else {}
    if code == REJECTED and "rejected" in last:
        raise RejectedError(printable(str(last["rejected"])))
    if code == ENVIRONMENT_ERROR and "environment_error" in last:
        raise ReportedEnvironmentError(printable(str(last["environment_error"])))
    if code == 0:
        return
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    if out_of_memory:
        how += ", out of memory"
    if not output.messages:
        raise ImportEnvironmentError(f"the import could not start: it {how}{output.error_suffix()}")
    raise ImportCrashedError(f"the import {how}{output.error_suffix()}")


def _wait(
    process: subprocess.Popen[bytes], meter: UsageMeter, output: Output, limits: Limits, stopping: threading.Event
) -> None:
    end = time.monotonic() + limits.seconds
    while not _has_ended(process):
        if stopping.wait(POLL_SECONDS):
            raise SyncCancelledError
        if time.monotonic() > end:
            late = f"the import did not finish within {limits.seconds:g} s"
            check_cause(late, limits.seconds, CpuTime.of(process.pid))
            raise ImportCrashedError(late)
        if output.exceeded:
            raise LimitExceededError("the import wrote too much to its standard output")
        meter.check()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """The process is not reaped here: until `_kill` has done so, its id cannot be reused by a process that would be killed."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with its descendants and its session. `open_cgroup` and `reserve_user` kill any other process."""
    for pid in process_tree(process.pid)[::-1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _policy(command: Sequence[str | Path], writable: Path, readable: Sequence[Path], limits: Limits) -> Policy:
    code = [ROOT / name for name in CODE]
    allowed = [*code, *interpreter_folders(Path(command[0])), *interpreter_folders(Path(sys.executable)), *readable]
    return Policy(
        readable=tuple(map(str, allowed)),
        writable=(str(writable),),
        memory=limits.memory,
        file_size=limits.disk,
        open_files=OPEN_FILES,
        low_priority=True,
    )


def _environment(writable: Path, threads: int) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "BENTOML_HOME"), str(writable)),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BUNRIWIKI_THREADS"), str(threads)),
        **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "BENTOML_DO_NOT_TRACK"), "true"),
        "BUNRIWIKI_MODEL_STORE": str(writable),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
