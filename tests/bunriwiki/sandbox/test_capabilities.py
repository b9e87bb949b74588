from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.sandbox.capabilities import CHOWN, SETUID, effective, has


def test_effective_capabilities_match_proc_status() -> None:
    with Path("/proc/self/status").open() as lines:
        [stated] = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    assert effective() == int(stated, 16)


def test_has_requires_all_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.capabilities.effective", lambda: 1 << CHOWN)
    assert has(CHOWN)
    assert not has(CHOWN, SETUID)
