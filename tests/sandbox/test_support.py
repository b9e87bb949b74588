from __future__ import annotations

import pytest

from sandbox.support import missing


def test_what_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.landlock.landlockpy.supported", lambda: True)
    monkeypatch.setattr("sandbox.seccomp.supported", lambda: True)
    assert missing() == []
    monkeypatch.setattr("sandbox.landlock.landlockpy.supported", lambda: False)
    monkeypatch.setattr("sandbox.seccomp.supported", lambda: False)
    without_landlock, without_filter = missing()
    assert without_landlock.startswith("this kernel has no Landlock")
    assert without_filter.startswith("no seccomp filter for this kernel")
