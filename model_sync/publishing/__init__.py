"""Publishing a version to S3: its files first, then its entry in `latest_model.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Progress = Callable[[Literal["read", "upload"], int, int], None]
"""Called with the phase, the bytes done and all bytes of the phase. From several threads, but never from two at once."""
