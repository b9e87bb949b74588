"""The service with the no-op model (`noop.py`), started by itself: no other ports, no sidecar, a model store of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.serving import BIN, Served, serving


@contextmanager
def noop_service(module: str = "benchmarks.noop", settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The service of `module`, once it is ready, with these settings besides. It ends with the block."""
    command = [str(BIN / "bentoml"), "serve", f"{module}:Bunriwiki", "--host", "127.0.0.1", "--port", "{port}"]
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as store:
        ports = {"BUNRIWIKI_GRPC_PORT": "0", "BUNRIWIKI_METRICS_PORT": "0"}
        variables = {"BUNRIWIKI_MODEL_STORE": store, "BUNRIWIKI_SYNC": "off", **ports, **(settings or {})}
        with serving(command, "/readyz", variables) as served:
            yield served
