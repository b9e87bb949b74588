"""Which TCP ports the containers of a network listen on, as another container of that network sees it, and what one reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bunriwiki.testing.containers.engine import Engine

# Runs in a container: connects to every port of the addresses that it is given.
PROGRAM = """
import json, select, socket, sys
def scan(address, first, last):
    pending, found = {}, []
    poll = select.poll()
    for port in range(first, last):
        s = socket.socket(); s.setblocking(False)
        if s.connect_ex((address, port)) == 0: found.append(port); s.close(); continue
        pending[s.fileno()] = (s, port); poll.register(s, select.POLLOUT)
    while pending:
        for number, _ in poll.poll(2000) or [(number, 0) for number in list(pending)]:
            s, port = pending.pop(number); poll.unregister(number)
            if _ and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: found.append(port)
            s.close()
    return found
print(json.dumps({address: sorted(p for first in range(1, 65536, 800) for p in scan(address, first, min(first + 800, 65536)))
                  for address in sys.argv[1:]}))
"""

# Runs in a container: which of the ADDRESS:PORT that it is given accept a connection.
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def connects(place):
    address, _, port = place.partition(":")
    try: socket.create_connection((address, int(port)), timeout=2).close()
    except OSError: return False
    return True
with ThreadPoolExecutor(32) as pool: print(json.dumps(list(pool.map(connects, sys.argv[1:]))))
"""


def open_ports(engine: Engine, network: str, image: str) -> dict[str, list[int]]:
    """The ports by the names of the network's containers; `image` has python3."""
    [found] = json.loads(engine.docker("network", "inspect", network))
    names = {entry["IPv4Address"].partition("/")[0]: entry["Name"] for entry in found["Containers"].values()}
    command = ("--entrypoint=python3", image, "-c", PROGRAM, *names)
    ports = json.loads(engine.docker("run", "--rm", f"--network={network}", "--ulimit=nofile=4096", *command))
    return {names[address]: listening for address, listening in ports.items()}


def reached(engine: Engine, container: str, places: Sequence[str], image: str) -> set[str]:
    """Which of `places`, each an address and a port, accept a connection from `container`; `image` has python3."""
    command = ("--entrypoint=python3", image, "-c", CONNECT, *places)
    accepted = json.loads(engine.docker("run", "--rm", f"--network=container:{container}", *command))
    return {place for place, yes in zip(places, accepted, strict=True) if yes}
