"""A client for plain HTTP to servers on this machine."""

from __future__ import annotations

import httpx

# For all threads. Each call of `httpx.get` makes a client and reads the certificates of all authorities for it: 24 ms of CPU,
# half a core while a test asks every 50 ms. It keeps no connections open, because a restarted server would have closed them.
CLIENT = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))  # noqa: S501 (no TLS here)
