from __future__ import annotations

import pytest

from bunriwiki.container.secrets import complaint

SECRET = "a-word-that-is-long-enough"  # noqa: S105 (a word, no secret)


@pytest.mark.parametrize("value", ["", "change-me"])
def test_a_missing_secret_is_named(value: str) -> None:
    sentence = complaint(["TOKEN", "KEY"], {"TOKEN": SECRET, "KEY": value})
    assert sentence is not None
    assert sentence.startswith("Set KEY in .env")


def test_a_short_secret_is_rejected_but_not_a_short_name() -> None:
    names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    sentence = complaint(names, {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "short"})
    assert sentence is not None
    assert sentence.startswith("AWS_SECRET_ACCESS_KEY in .env must have")


def test_secrets_are_accepted() -> None:
    assert complaint(["TOKEN"], {"TOKEN": SECRET}) is None
