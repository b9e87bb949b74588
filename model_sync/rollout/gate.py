"""What a container may be created with: an allow-list for the body of `POST /containers/create`.

Whoever may create any container is root on the host. So the proxy in front of the engine's socket
(deploy/rollout/engine.yaml) asks here about each body before it passes on, and this must let through the replicas of the
project and trials, and nothing else.

python -m model_sync.rollout.gate <port>
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvicorn
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

MAX_BODY_BYTES = 262_144
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*:/store(/run)?(:[a-z,]+)?")  # a named one, at the places of the service
NETWORK = re.compile(r"[a-z0-9][a-z0-9_-]*")
NOT_NETWORKS = ("host", "none", "bridge", "default")
IMAGE = re.compile(r"([a-z0-9.:-]+/)*bunriwiki[a-z0-9-]*(:[a-zA-Z0-9_.-]+)?")
SECURITY = ("no-new-privileges:true", "no-new-privileges=true", "no-new-privileges")

Rule = Callable[[Any], bool]


class RejectedBodyError(Exception):
    """The body is not allowed. The message names the field."""


def check(body: bytes) -> None:
    """Raises RejectedBodyError unless the body describes a container with the privileges of a replica of the service.

    Names of fields must be written as the engine documents them and occur once, because the engine ignores their case and
    takes the last one. A field that is not listed must have no value.
    """
    try:
        container = json.loads(body, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise RejectedBodyError("the body is not JSON") from error
    _check(container, CONTAINER, "")


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name.casefold() for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a field occurs twice")
    return dict(pairs)


def _check(value: object, rules: Mapping[str, Rule], place: str) -> None:
    if not isinstance(value, dict):
        raise RejectedBodyError(f"{place or 'the body'} is not an object")
    for name, content in value.items():
        rule = rules.get(name, _is_empty)
        if not rule(content):
            raise RejectedBodyError(f"{place}{name[:60]} is not allowed to be {json.dumps(content)[:200]}")


def _is_empty(value: object) -> bool:
    return value in (None, "", 0, False, -1) or value in ([], {}) or (isinstance(value, list) and value == [0, 0])


def _anything(_: object) -> bool:
    return True


def _texts(pattern: re.Pattern[str]) -> Rule:
    """None, or a list of texts that match."""
    return lambda value: (
        value is None
        or (isinstance(value, list) and all(isinstance(text, str) and pattern.fullmatch(text) is not None for text in value))
    )


def _is_network(value: object) -> bool:
    return isinstance(value, str) and NETWORK.fullmatch(value) is not None and value not in NOT_NETWORKS


def _are_mounts(value: object) -> bool:
    """Named volumes at the places of the service, with no options of their own, and file systems in memory."""
    if value is None:
        return True
    if not isinstance(value, list):
        return False
    for mount in value:
        kind, source, target = (
            (mount.get(name, "") for name in ("Type", "Source", "Target")) if isinstance(mount, dict) else ("",) * 3
        )
        is_volume = kind == "volume" and VOLUME.fullmatch(f"{source}:{target}") is not None
        options = mount.get("VolumeOptions") if isinstance(mount, dict) else {}
        if not (is_volume or (kind == "tmpfs" and not source)) or (options and set(options) - {"Labels", "NoCopy"}):
            return False
    return True


def _are_networks(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    endpoints = value.get("EndpointsConfig") or {}
    return set(value) <= {"EndpointsConfig"} and isinstance(endpoints, dict) and all(map(_is_network, endpoints))


def _is_confined(value: object) -> bool:
    _check(value, HOST_CONFIG, "HostConfig.")
    assert isinstance(value, dict)  # noqa: S101 (what _check has checked)
    return "ALL" in (value.get("CapDrop") or [])


HOST_CONFIG: dict[str, Rule] = {
    "Binds": _texts(VOLUME),
    "Mounts": _are_mounts,
    "Tmpfs": _anything,
    "NetworkMode": _is_network,
    "CapDrop": _anything,
    "SecurityOpt": lambda value: value is None or all(option in SECURITY for option in value),
    "ReadonlyRootfs": _anything,
    "RestartPolicy": _anything,
    "Memory": _anything,
    "MemorySwap": _anything,
    "NanoCpus": _anything,
    "PidsLimit": _anything,
    "LogConfig": lambda value: value is None or value.get("Type") in ("", "json-file"),
    "IpcMode": lambda value: value in ("", "private"),
    "CgroupnsMode": lambda value: value in ("", "private"),
    "ConsoleSize": _anything,
    "MaskedPaths": lambda value: value is None,  # an empty list would unmask all of them
    "ReadonlyPaths": lambda value: value is None,
    "ShmSize": _anything,
    "MemorySwappiness": _anything,
    "OomKillDisable": lambda value: not value,
    "PortBindings": lambda value: not value,
}
CONTAINER: dict[str, Rule] = {
    "Image": lambda value: isinstance(value, str) and IMAGE.fullmatch(value) is not None,
    "HostConfig": _is_confined,
    "NetworkingConfig": _are_networks,
    "Env": _anything,
    "Labels": _anything,
    "ExposedPorts": _anything,
    "Healthcheck": _anything,
    "StopTimeout": _anything,
    "StopSignal": _anything,
    "AttachStdout": _anything,
    "AttachStderr": _anything,
    "Hostname": _anything,
}


async def _authorize(request: Request) -> Response:
    """The proxy's question about a request: 200 lets it pass."""
    body = await request.body()
    try:
        if len(body) > MAX_BODY_BYTES:
            raise RejectedBodyError("the body is too large")
        check(body)
    except RejectedBodyError as error:
        logger.error("{} {} is rejected: {}", request.method, request.url.path[:100], error)
        return PlainTextResponse(f"The rollout may not create this container: {error}.\n", 403)
    return PlainTextResponse("\n")


def make_app() -> Starlette:
    """The ASGI application: every path is a question about a body."""
    return Starlette(routes=[Route("/{path:path}", _authorize, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(make_app(), host="0.0.0.0", port=int(sys.argv[1]), log_level="warning")  # noqa: S104 (in a network of its own)
