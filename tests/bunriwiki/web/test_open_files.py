from __future__ import annotations

import resource

import pytest

from bunriwiki.web import open_files


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 1024), 1024),
        ((1024, 4096), 4096),
        ((1024, 1_048_576), open_files.WANTED),
        ((1024, resource.RLIM_INFINITY), open_files.WANTED),
        ((500_000, 1_048_576), 500_000),  # an administrator's choice
    ],
)
def test_the_limit_is_raised_within_reason(monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: int) -> None:
    held = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: held[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: held.append(new))
    assert open_files.raise_limit() == raised
    assert held[-1] == (raised, limits[1])


@pytest.mark.parametrize(("soft", "found"), [(1024, 512), (65_536, 4096), (1, 1), (resource.RLIM_INFINITY, 4096)])
def test_connections_get_a_share(monkeypatch: pytest.MonkeyPatch, soft: int, found: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert open_files.max_connections(0.5) == found
