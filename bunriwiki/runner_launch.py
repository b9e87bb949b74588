"""How the parent starts a runner's worker: in a sandbox, with an environment without secrets, behind its own socket.

A worker runs models from a registry, and a pyfunc is third-party code. So a worker may read its code, its libraries and the
models, write its heartbeat, its metrics and its own log, and answer connections to its socket; it must not open connections or
start processes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from bunriwiki.ipc.client import SOCKET
from bunriwiki.model_store.layout import Layout
from bunriwiki.sandbox.policy import Policy, interpreter_folders
from bunriwiki.settings import PREFIX, Settings
from bunriwiki.telemetry.logs import ADDRESS

# Of BUNRIWIKI_...; the others are for the gateway or the sidecar, or are secrets.
SETTINGS = (
    "models", "model_store", "gateway_workers", "runner_workers", "threads", "yolo_size", "deadline_seconds", "max_rss_mb",
    "drain_seconds", "log_level", "log_format", "log_folder", "log_roll_days", "log_roll_mb", "log_keep",
)  # fmt: skip
BENTOML = ("CONFIG", "CONFIG_OPTIONS", "CONTAINERIZED", "DEBUG", "DO_NOT_TRACK", "HOME", "QUIET", "RUNNER_MAP", "VERBOSITY")
VARIABLES = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PATH", "PROMETHEUS_MULTIPROC_DIR", "TZ")
PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "MKL_", "OTEL_SDK_", "PYTHON")
GPUS = ("nvidia*", "dri", "kfd")
CODE = Path(__file__).parent.parent


def environment(given: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The environment of a runner's worker: those variables of the parent's environment that are on the allow-list."""
    allowed = {*VARIABLES, ADDRESS, *(f"BENTOML_{name}" for name in BENTOML), *(PREFIX + name.upper() for name in SETTINGS)}
    kept = {name: value for name, value in given.items() if name in allowed or name.startswith(PREFIXES)}
    return {
        **kept,
        "TMPDIR": str(temporary),
        "PYTHONPATH": ":".join([str(CODE), *filter(None, [given.get("PYTHONPATH")])]),  # for the launcher, in any folder
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime keeps an identifier of the machine
        "JOBLIB_MULTIPROCESSING": "0",  # joblib would warn that it cannot start processes
    }


def policy(model: str, settings: Settings, *, sockets: Path, writable: list[Path]) -> Policy:
    """What a worker of `model` may do. Its socket is created in `sockets`; it may also write to the folders `writable`."""
    layout = Layout(settings.model_store)
    bentos = Path(str(BentoMLContainer.bentoml_home.get())) / "bentos"
    readable = (*_code(), bentos, *interpreter_folders(Path(sys.executable)), settings.models, layout.root)
    return Policy(
        readable=tuple(map(str, readable)),
        writable=tuple(str(path) for path in (layout.run, sockets, *writable, *_log_folder(model, settings)) if path.is_dir()),
        listen=str(sockets / f"{{pid}}{SOCKET}"),
        # The sentiment model may be third-party code; the engines of the others are part of the project, and may use a GPU.
        devices=() if model == "sentiment" else tuple(str(path) for name in GPUS for path in Path("/dev").glob(name)),
    )


def _log_folder(model: str, settings: Settings) -> list[Path]:
    """The folder of the worker's log file, which the sandbox requires to exist; empty if there is none."""
    folder = settings.logs(model).folder
    if folder is not None:
        with contextlib.suppress(OSError):  # the worker logs that it cannot write there
            folder.mkdir(parents=True, exist_ok=True)
    return [folder] if folder else []


def _code() -> list[Path]:
    """The folder of the Bento, or everything in the clone except hidden files: `.env` may contain secrets."""
    if (CODE.parent / "bento.yaml").is_file():
        return [CODE.parent]
    return [path for path in CODE.iterdir() if not path.name.startswith(".")]
