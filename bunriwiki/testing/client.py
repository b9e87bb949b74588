"""A client for plain HTTP to servers on this machine."""

from __future__ import annotations

import ssl

import httpx

# For all threads. Each call of `httpx.get` makes a client and reads the certificates of all authorities for it: 24 ms of CPU,
# half a core while a test asks every 50 ms. It keeps no connections open, because a restarted server would have closed them.
# Its TLS context knows no authorities, so it trusts no server over HTTPS.
CLIENT = httpx.Client(
    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
)
