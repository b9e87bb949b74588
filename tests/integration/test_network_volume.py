"""A store on a file system that reports no changes, as network volumes do not: workers follow it by polling.

The file system is bindfs (FUSE): the service has the store at its mount, and the writer writes to the folder below it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchfiles import watch

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.processes import wait_while_running
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL

SWAP_SECONDS = 10.0 if FULL else 60.0  # the short form may run on a busy machine


@pytest.fixture
def volume(store: StoreWriter, tmp_path: Path) -> Iterator[Path]:
    """The store, as it is mounted."""
    mount = tmp_path / "mount"
    mount.mkdir()
    with subprocess.Popen(["/usr/bin/bindfs", "-f", store.layout.root, mount]) as process:
        wait_while_running(process, mount.is_mount, 10, lambda: "bindfs is Debian's package bindfs; it requires /dev/fuse")
        yield mount
        subprocess.run(["/usr/bin/fusermount", "-u", "-z", mount], check=True)
        process.wait(30)


def test_workers_follow_a_store_that_reports_no_changes(start: Callable[..., Server], store: StoreWriter, volume: Path) -> None:
    server = start(environment={"BUNRIWIKI_MODEL_STORE": str(volume)})
    assert promote(store, "kcbert", "v1", "a test", "operator") == 1  # the worker was waited for: its heartbeats arrive
    took = server.wait_until_serving("kcbert", "v1", workers=1, seconds=SWAP_SECONDS)
    began = time.monotonic()
    promote(store, "kcbert", "v2", "a test", "operator")
    server.wait_until_serving("kcbert", "v2", workers=1, seconds=SWAP_SECONDS)
    print(f"{took:.1f} s, {time.monotonic() - began:.1f} s with preparation")
    server.stop()


def test_such_a_store_reports_no_changes(store: StoreWriter, volume: Path) -> None:
    """What the test above relies on."""
    changes = watch(volume, yield_on_timeout=True, rust_timeout=1000, force_polling=False)
    assert next(changes) == set()
    promote(store, "kcbert", "v3", "a test", "operator")
    assert (volume / "generation.yaml").read_text() == store.layout.generation.read_text()
    assert next(changes) == set()
