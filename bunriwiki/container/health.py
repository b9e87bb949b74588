"""The health check of a container.

python -m bunriwiki.container.health [PATH [VARIABLE]]

Exits with 0 if 127.0.0.1:`PORT` answers `PATH` (default: /livez) with 200; over TLS if the environment variable is set. The
certificate is not verified: nothing is sent but the path, and to this machine. It imports the standard library only, because it
runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

TIMEOUT_SECONDS = 4.0
DEFAULT_PORT = 3000


def is_healthy(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether 127.0.0.1:`port` answers a GET of `path` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    if tls:
        context = ssl._create_unverified_context()  # noqa: S323 (see above)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "/livez"
    secure = len(sys.argv) > 2 and bool(os.environ.get(sys.argv[2]))
    answered = is_healthy(int(os.environ.get("PORT") or DEFAULT_PORT), path, tls=secure)
    sys.exit(0 if answered else 1)
