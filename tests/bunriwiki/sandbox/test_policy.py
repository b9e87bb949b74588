from __future__ import annotations

import pytest

from bunriwiki.sandbox.policy import Policy


def test_a_policy_round_trips_through_json() -> None:
    policy = Policy(("/a", "/b"), ("/c",), memory=1, user=61184, keep=(3,), listen="/d/{pid}")
    assert Policy.from_json(policy.to_json()) == policy


def test_an_unknown_field_is_rejected() -> None:
    with pytest.raises(TypeError):
        Policy.from_json('{"writeable": []}')
