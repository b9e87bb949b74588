"""The digests by which registries tell one offer from another, and by which a signature covers its files."""

from __future__ import annotations

import hashlib
import json


def digest_of(content: object) -> str:
    """The SHA-256, in hex, of `content` as JSON without spaces."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
