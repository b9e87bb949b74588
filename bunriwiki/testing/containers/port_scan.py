"""Which TCP ports the containers of a network listen on, as another container of that network sees it."""

from __future__ import annotations

import json

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


def open_ports(engine: Engine, network: str, image: str) -> dict[str, list[int]]:
    """The ports by the names of the network's containers; `image` has python3."""
    [found] = json.loads(engine.docker("network", "inspect", network))
    names = {entry["IPv4Address"].partition("/")[0]: entry["Name"] for entry in found["Containers"].values()}
    command = ("--entrypoint=python3", image, "-c", PROGRAM, *names)
    ports = json.loads(engine.docker("run", "--rm", f"--network={network}", "--ulimit=nofile=4096", *command))
    return {names[address]: listening for address, listening in ports.items()}
