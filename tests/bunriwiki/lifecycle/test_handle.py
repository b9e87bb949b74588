from __future__ import annotations

import pytest

from bunriwiki.lifecycle.handle import Handle
from bunriwiki.lifecycle.servable import ServableId


def test_a_handle_is_released_once() -> None:
    released: list[None] = []
    handle = Handle(ServableId("m", "1"), "servable", lambda: released.append(None))
    with handle as same:
        assert same is handle
        assert handle.servable == "servable"
        assert str(handle.id) == "m:1"
    handle.close()
    assert len(released) == 1
    with pytest.raises(RuntimeError, match="m:1 is closed"):
        _ = handle.servable


def test_a_handle_is_released_if_the_block_fails() -> None:
    released: list[None] = []
    with pytest.raises(KeyError), Handle(ServableId("m", "1"), "servable", lambda: released.append(None)):
        raise KeyError
    assert len(released) == 1
