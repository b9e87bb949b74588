"""The health check of a container.

python -m bunriwiki.container.health [PATH]

Exits with 0 if 127.0.0.1:`PORT` answers `PATH` (default: /livez) with 200. It imports the standard library only, because it
runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_SECONDS = 4.0
DEFAULT_PORT = 3000


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
    answered = is_healthy(int(os.environ.get("PORT") or DEFAULT_PORT), *(sys.argv[1:] or ["/livez"]))
    sys.exit(0 if answered else 1)
