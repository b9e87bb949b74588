"""The health check of a container.

python -m bunriwiki.container.health [PATH [VARIABLE]]

Exits with 0 if 127.0.0.1:`PORT` answers `PATH` with 200; over TLS if the environment variable is set. The certificate is not
verified: nothing is sent but the path, and to this machine. With the word `service` in place of the variable, the port is the
service's for health checks, if it has one; so it is without arguments, and the path is /livez. It imports the standard library
only, because it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_SECONDS = 4.0
DEFAULT_PORT = 3000
METRICS_PORT_OFFSET = 3  # bunriwiki/settings.py has it as well


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


def port_of(environment: Mapping[str, str], *, service: bool) -> int:
    """The port to check: `PORT`, or of the service that for health checks."""
    port = int(environment.get("PORT") or DEFAULT_PORT)
    if not service:
        return port
    given = int(environment.get("BUNRIWIKI_METRICS_PORT") or port + METRICS_PORT_OFFSET)
    return given if 0 < given <= 65535 else port


if __name__ == "__main__":
    path, *variable = sys.argv[1:] or ["/livez", "service"]
    of_service = variable == ["service"]
    secure = not of_service and any(os.environ.get(name) for name in variable)
    answered = is_healthy(port_of(os.environ, service=of_service), path, tls=secure)
    sys.exit(0 if answered else 1)
