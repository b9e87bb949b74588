"""Imports while every core is busy with other things: a good version is not quarantined for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.testing.busy import busy_cores
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import make_version, pyfunc
from model_sync.sources.local import LocalSource
from tests.integration.conftest import FULL

IMPORTS = 10 if FULL else 2


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that syncs sentiment with the folder `versions`, whose version v0 serves."""
    versions = tmp_path / "versions"
    versions.mkdir()
    pyfunc(versions / "v0", note="v0")
    offer = LocalSource({"sentiment": versions}).newest("sentiment")
    serve_from_store(tmp_path / "store", make_version("sentiment", "v0", 0, tmp_path / "v0"), offer)
    settings = {"BUNRIWIKI_SOURCES": f"sentiment=local:{versions}", "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600"}
    sidecar = Sidecar(tmp_path / "store", tmp_path / "log", settings).start()
    try:
        sidecar.wait_for_status("sentiment", "unchanged", "v0")
        yield sidecar
    finally:
        sidecar.stop()


def test_no_good_version_is_quarantined_while_every_core_is_busy(sidecar: Sidecar, tmp_path: Path) -> None:
    seconds = []
    with busy_cores():
        for number in range(1, IMPORTS + 1):
            version = f"v{number}"
            pyfunc(tmp_path / "made" / version, note=version).rename(tmp_path / "versions" / version)
            (tmp_path / "versions" / version).touch()  # the newest version counts
            began = time.monotonic()
            status = sidecar.sync("sentiment")["outcomes"]["sentiment"]["status"]
            if status == "undecided":  # the sidecar tries again by itself
                sidecar.wait(lambda wanted=version: sidecar.serving("sentiment") == wanted)  # type: ignore[misc]
            assert sidecar.serving("sentiment") == version
            seconds.append(round(time.monotonic() - began, 1))
            state = sidecar.state("sentiment")
            assert state
            print(version, [finding for finding in state.findings if finding.startswith("latency: ")])
    undecided = len(sidecar.events("undecided"))
    print(f"{IMPORTS} imports on a busy machine, in {seconds} s; {undecided} attempts were undecided")
    assert sidecar.events("quarantined") == []


def test_a_slow_version_is_rejected_while_every_core_is_busy(sidecar: Sidecar, tmp_path: Path) -> None:
    pyfunc(tmp_path / "made" / "slow", predict="import time; time.sleep(0.1)").rename(tmp_path / "versions" / "slow")
    (tmp_path / "versions" / "slow").touch()
    with busy_cores():
        outcome = sidecar.sync("sentiment")["outcomes"]["sentiment"]
    assert outcome["status"] == "rejected"
    assert outcome["reason"].startswith("latency: ")
    assert sidecar.serving("sentiment") == "v0"
