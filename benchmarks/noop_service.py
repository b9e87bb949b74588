"""The service with the no-op model (`noop.py`), started by itself: no gRPC port, no sidecar, a model store of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load import free_port
from benchmarks.side_by_side import BIN, start


@contextmanager
def noop_service() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The parent of its processes and its port, once it is ready. It ends with the block."""
    port = free_port()
    command = [str(BIN / "bentoml"), "serve", "benchmarks.noop:Bunriwiki", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as store:
        apart = {"BUNRIWIKI_MODEL_STORE": store, "BUNRIWIKI_GRPC_PORT": "0", "BUNRIWIKI_SYNC": "off"}
        process, _ = start(command, port, "/readyz", apart)
        try:
            yield process, port
        finally:
            process.terminate()
            process.wait()
