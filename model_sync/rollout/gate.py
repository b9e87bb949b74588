"""What a container may be created with, and a service of Swarm changed to: an allow-list for bodies of the engine's API.

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
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*:(/store(/run)?|/logs)(:[a-z,]+)?")  # a named one, at the places of the service
NETWORK = re.compile(r"[a-z0-9][a-z0-9_-]*")
NOT_NETWORKS = ("host", "none", "bridge", "default")
IMAGE = re.compile(r"([a-z0-9.:-]+/)*bunriwiki[a-z0-9-]*(:[a-zA-Z0-9_.-]+)?")
SECURITY = ("no-new-privileges:true", "no-new-privileges=true", "no-new-privileges")

REQUIRED = {
    "Image",
    "HostConfig",
    "CapDrop",
    "TaskTemplate",
    "ContainerSpec",
    "CapabilityDrop",
}  # where there is a rule for them

Rule = Callable[[Any], bool]


class RejectedBodyError(Exception):
    """The body is not allowed. The message names the field."""


def check(path: str, body: bytes) -> None:
    """Raises RejectedBodyError unless the body describes a container, or a service, with the privileges of a replica.

    Names of fields must be written as the engine documents them and occur once, because the engine ignores their case and
    takes the last one. A field that is not listed must have no value.
    """
    try:
        described = json.loads(body, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise RejectedBodyError("the body is not JSON") from error
    _check(described, SERVICE if path.endswith("/update") else CONTAINER, "")


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name.casefold() for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a field occurs twice")
    return dict(pairs)


def _check(value: object, rules: Mapping[str, Rule], place: str) -> None:
    if not isinstance(value, dict):
        raise RejectedBodyError(f"{place or 'the body'} is not an object")
    if lacking := REQUIRED & rules.keys() - value.keys():
        raise RejectedBodyError(f"{place}{min(lacking)} is missing")
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
    return all(isinstance(mount, dict) and _is_mount(mount) for mount in value)


def _is_mount(mount: Mapping[str, Any]) -> bool:
    if set(mount) - {"Type", "Source", "Target", "ReadOnly", "VolumeOptions", "TmpfsOptions"}:
        return False
    if set(mount.get("VolumeOptions") or {}) - {"Labels", "NoCopy"}:  # a driver's options can name a folder of the host
        return False
    source, target = mount.get("Source") or "", mount.get("Target")
    if mount.get("Type") == "tmpfs":
        return not source
    return mount.get("Type") == "volume" and VOLUME.fullmatch(f"{source}:{target}") is not None


def _are_networks(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    endpoints = value.get("EndpointsConfig") or {}
    return set(value) <= {"EndpointsConfig"} and isinstance(endpoints, dict) and all(map(_is_network, endpoints))


def _checked(rules: Mapping[str, Rule], place: str) -> Rule:
    """The rule for an object with rules of its own."""

    def rule(value: object) -> bool:
        _check(value, rules, place)
        return True

    return rule


def _drops_all(value: object) -> bool:
    """Whether a list of capabilities to drop has all of them."""
    return isinstance(value, list) and "ALL" in value


def _are_no_privileges(value: object) -> bool:
    """Whether it is what the engine reports for a service that was given none."""
    if not isinstance(value, dict) or set(value) - {"CredentialSpec", "SELinuxContext", "NoNewPrivileges"}:
        return value is None
    return all(map(_is_empty, value.values()))


HOST_CONFIG: dict[str, Rule] = {
    "Binds": _texts(VOLUME),
    "Mounts": _are_mounts,
    "Tmpfs": _anything,
    "NetworkMode": _is_network,
    "CapDrop": _drops_all,
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
}
CONTAINER: dict[str, Rule] = {
    "Image": lambda value: isinstance(value, str) and IMAGE.fullmatch(value) is not None,
    "HostConfig": _checked(HOST_CONFIG, "HostConfig."),
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

CONTAINER_SPEC: dict[str, Rule] = {
    "Image": lambda value: isinstance(value, str) and IMAGE.fullmatch(value.partition("@")[0]) is not None,
    "Labels": _anything,
    "Env": _anything,
    "Hostname": _anything,
    "Mounts": _are_mounts,
    "Healthcheck": _anything,
    "StopGracePeriod": _anything,
    "CapabilityDrop": _drops_all,
    "Privileges": _are_no_privileges,
    "Isolation": lambda value: value in ("", "default"),
    "ReadOnly": _anything,
}
TASK: dict[str, Rule] = {
    "ContainerSpec": _checked(CONTAINER_SPEC, "TaskTemplate.ContainerSpec."),
    "Resources": _anything,
    "RestartPolicy": _anything,
    "Placement": _anything,
    "Networks": _anything,
    "LogDriver": lambda value: value is None or value.get("Name") in ("", "json-file"),
    "ForceUpdate": _anything,
    "Runtime": lambda value: value in ("", "container"),
}
SERVICE: dict[str, Rule] = {
    "Name": _anything,
    "Labels": _anything,
    "TaskTemplate": _checked(TASK, "TaskTemplate."),
    "Mode": _anything,
    "UpdateConfig": _anything,
    "RollbackConfig": _anything,
    "EndpointSpec": lambda value: value is None or not value.get("Ports"),
}


async def _authorize(request: Request) -> Response:
    """The proxy's question about a request: 200 lets it pass."""
    body = await request.body()
    try:
        if len(body) > MAX_BODY_BYTES:
            raise RejectedBodyError("the body is too large")
        check(request.url.path, body)
    except RejectedBodyError as error:
        logger.error("{} {} is rejected: {}", request.method, request.url.path[:100], error)
        return PlainTextResponse(f"The rollout may not create this container: {error}.\n", 403)
    return PlainTextResponse("\n")


async def _livez(_: Request) -> Response:
    return PlainTextResponse("\n")


def make_app() -> Starlette:
    """The ASGI application: every path is a question about a body."""
    return Starlette(routes=[Route("/livez", _livez), Route("/{path:path}", _authorize, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(make_app(), host="0.0.0.0", port=int(sys.argv[1]), log_level="warning")  # noqa: S104 (in a network of its own)
