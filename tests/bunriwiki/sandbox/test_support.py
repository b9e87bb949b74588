from __future__ import annotations

import pytest

from bunriwiki.sandbox.support import missing


def test_missing_kernel_features_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.landlock.landlockpy.supported", lambda: True)
    monkeypatch.setattr("bunriwiki.sandbox.seccomp.supported", lambda: True)
    assert missing() == []
    monkeypatch.setattr("bunriwiki.sandbox.landlock.landlockpy.supported", lambda: False)
    monkeypatch.setattr("bunriwiki.sandbox.seccomp.supported", lambda: False)
    without_landlock, without_filter = missing()
    assert without_landlock.startswith("this kernel has no Landlock")
    assert without_filter.startswith("no seccomp filter for this kernel")
