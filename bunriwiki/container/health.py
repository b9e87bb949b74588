"""The health check of the service's container.

python -m bunriwiki.container.health

Exits with 0 if the service answers `/livez`. It imports the standard library only: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_SECONDS = 4.0


def is_healthy(port: int, path: str) -> bool:
    """Whether 127.0.0.1:`port` answers a GET of `path` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_healthy(int(os.environ.get("PORT") or 3000), "/readyz") else 1)
