"""How the parent starts a runner's worker: in a sandbox, with an environment without secrets, behind a socket of its own.

What a worker answers with comes from a registry, and a pyfunc is other people's code. So a worker may read its code, its
libraries and the models, write what it says of itself, and answer who connects to its socket; it may open no connection and
start no process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from bunriwiki.ipc.client import SOCKET
from bunriwiki.model_store.layout import Layout
from bunriwiki.sandbox.policy import Policy
from bunriwiki.settings import PREFIX, Settings
from bunriwiki.telemetry.logs import ADDRESS

# Of BUNRIWIKI_...; what else there is concerns the gateway or the sidecar, or is a secret.
SETTINGS = (
    "models", "model_store", "gateway_workers", "runner_workers", "threads", "deadline_seconds", "max_rss_mb", "drain_seconds",
    "log_level",
)  # fmt: skip
BENTOML = ("CONFIG", "CONFIG_OPTIONS", "CONTAINERIZED", "DEBUG", "DO_NOT_TRACK", "HOME", "QUIET", "RUNNER_MAP", "VERBOSITY")
VARIABLES = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PATH", "PROMETHEUS_MULTIPROC_DIR", "TZ")
PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "MKL_", "OTEL_SDK_", "PYTHON")
GPUS = ("nvidia*", "dri", "kfd")
CODE = Path(__file__).parent.parent


def environment(given: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The environment of a runner's worker, from the parent's: an allow-list."""
    allowed = {*VARIABLES, ADDRESS, *(f"BENTOML_{name}" for name in BENTOML), *(PREFIX + name.upper() for name in SETTINGS)}
    kept = {name: value for name, value in given.items() if name in allowed or name.startswith(PREFIXES)}
    return {
        **kept,
        "TMPDIR": str(temporary),
        "PYTHONPATH": ":".join([str(CODE), *filter(None, [given.get("PYTHONPATH")])]),  # for the launcher, whatever the folder
        "JOBLIB_MULTIPROCESSING": "0",  # or it would try processes, warn that it may not, and do without
    }


def policy(model: str, settings: Settings, *, sockets: Path, writable: list[Path]) -> Policy:
    """What a worker of `model` may do. Its socket is made in `sockets`."""
    layout = Layout(settings.model_store)
    bentos = Path(str(BentoMLContainer.bentoml_home.get())) / "bentos"
    readable = (*_code(), bentos, *_homes(Path(sys.executable)), settings.models, layout.root)
    return Policy(
        readable=tuple(map(str, readable)),
        writable=tuple(str(path) for path in (layout.run, sockets, *writable) if path.is_dir()),
        listen=str(sockets / f"{{pid}}{SOCKET}"),
        # The sentiment model may be other people's code; the engines of the others are ours, and may be on a GPU.
        devices=() if model == "sentiment" else tuple(str(path) for name in GPUS for path in Path("/dev").glob(name)),
    )


def _code() -> list[Path]:
    """The Bento; of a clone, what is in it but for hidden files: those are no code, and `.env` may hold secrets."""
    if (CODE.parent / "bento.yaml").is_file():
        return [CODE.parent]
    return [path for path in CODE.iterdir() if not path.name.startswith(".")]


def _homes(python: Path) -> list[Path]:
    """Where an interpreter lies, its environment, and the one that this was made of."""
    return [python.absolute().parent.parent, python.resolve().parent.parent]
