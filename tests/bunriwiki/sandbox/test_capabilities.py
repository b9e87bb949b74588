from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.sandbox.capabilities import CHOWN, SETUID, effective, has


def test_they_are_as_the_kernel_says() -> None:
    with Path("/proc/self/status").open() as lines:
        [stated] = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    assert effective() == int(stated, 16)


def test_all_of_several_have_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.capabilities.effective", lambda: 1 << CHOWN)
    assert has(CHOWN)
    assert not has(CHOWN, SETUID)
