from __future__ import annotations

import pytest

from protocols.admin import AdminGate
from protocols.errors import RequestError


def status(gate: AdminGate, authorization: str | None) -> int:
    try:
        gate.check(authorization)
    except RequestError as error:
        return error.status
    return 200


def test_with_no_token_set_it_is_closed() -> None:
    assert status(AdminGate([]), "Bearer ") == 403


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer wrong", 401), ("Basic one", 401),
        ("Bearer one", 200), ("bearer two", 200), ("Bearer 가", 401),
    ],
)  # fmt: skip
def test_tokens(authorization: str | None, expected: int) -> None:
    assert status(AdminGate(["one", "two"]), authorization) == expected
