from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.container.limits import Memory
from bunriwiki.testing.paths import MODELS
from runners.headroom import BYTES_PER_FILE_BYTE, NotEnoughMemoryError, beside_serving

NEEDED = BYTES_PER_FILE_BYTE * sum(path.stat().st_size for path in (MODELS / "kcbert").iterdir())


def name_of(folder: Path) -> str:
    return folder.name


@pytest.mark.parametrize("state", [None, Memory(limit=NEEDED + 100, used=100)])
def test_a_version_that_fits_is_opened(state: Memory | None) -> None:
    assert beside_serving(name_of, lambda: state)(MODELS / "kcbert") == "kcbert"


def test_a_version_that_does_not_fit_is_not_opened() -> None:
    state = Memory(limit=NEEDED + 100, used=101)
    with pytest.raises(NotEnoughMemoryError, match=r"kcbert needs about \d+ MB beside the serving version, and \d+ MB"):
        beside_serving(name_of, lambda: state)(MODELS / "kcbert")
