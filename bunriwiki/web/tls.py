"""TLS of the clients of this project's own servers."""

from __future__ import annotations

import ssl
from pathlib import Path


def trusting(certificates: Path | None) -> ssl.SSLContext | bool:
    """What an HTTP client verifies a server with: the certificates in a PEM file, and no others; None: those of the system.

    A certificate in the file is trusted as it is, whoever issued it. Raises OSError, and ssl.SSLError for a file without any.
    """
    if certificates is None:
        return True
    context = ssl.create_default_context(cafile=certificates)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
