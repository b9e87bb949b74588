from __future__ import annotations

import subprocess

import pytest

from bunriwiki.sandbox.user import FIRST, LAST, can_change
from model_sync.sandbox.users import reserve_user

pytestmark = pytest.mark.slow

with_users = pytest.mark.skipif(not can_change(), reason="the tests may not change users")


def test_off_reserves_none() -> None:
    with reserve_user("off") as user:
        assert user is None


def test_a_sidecar_that_may_not_change_users_reserves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_sync.sandbox.users.can_change", lambda: False)
    with reserve_user("auto") as user:
        assert user is None


@with_users
def test_no_two_imports_share_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([5, 5, 7])
    monkeypatch.setattr("model_sync.sandbox.users.secrets.randbelow", lambda below: next(draws))
    with reserve_user("auto") as first, reserve_user("auto") as second:
        assert (first, second) == (FIRST + 5, FIRST + 7)


@with_users
def test_a_user_with_a_process_is_not_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([9, 11])
    monkeypatch.setattr("model_sync.sandbox.users.secrets.randbelow", lambda below: next(draws))
    with subprocess.Popen(["/bin/sleep", "60"], user=FIRST + 9) as process:
        try:
            with reserve_user("auto") as user:
                assert user == FIRST + 11
        finally:
            process.kill()


@with_users
def test_remaining_processes_of_the_user_are_killed() -> None:
    with reserve_user("auto") as user:
        assert user is not None
        assert FIRST <= user <= LAST
        left = subprocess.Popen(["/bin/sleep", "60"], user=user, start_new_session=True)
    assert left.wait(5) < 0


def test_changing_users_requires_that_the_range_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.user._mapped", lambda path: False)
    assert not can_change()
