"""What the rollout may create in the engine, and what it may not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import yaml

from bunriwiki.testing.paths import ROOT
from model_sync.rollout.gate import MAX_BODY_BYTES, RejectedBodyError, check, make_app

pytestmark = pytest.mark.anyio
CREATE, UPDATE = "/v1.47/containers/create", "/v1.47/services/x/update"


def container(host: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """The body with which Compose creates a replica, with changes."""
    config = {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "Tty": False, "Env": ["A=b"], "Cmd": None,
        "Image": "bunriwiki-versions:0123", "Volumes": None, "WorkingDir": "", "Entrypoint": None, "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["CMD", "x"]}, "ExposedPorts": {"3000/tcp": {}}, "StopTimeout": 90,
        "HostConfig": {
            "Binds": ["x_store:/store:ro", "x_heartbeats:/store/run:rw", "x_logs:/logs:rw"],
            "NetworkMode": "x_serving", "CapDrop": ["ALL"],
            "RestartPolicy": {"Name": "unless-stopped"}, "SecurityOpt": ["no-new-privileges:true"], "ReadonlyRootfs": True,
            "Tmpfs": {"/x": "size=256m"}, "Memory": 3, "NanoCpus": 2, "PidsLimit": 512, "PortBindings": {},
            "ConsoleSize": [0, 0],
            "LogConfig": {"Type": "json-file", "Config": {}}, "Privileged": False, "CapAdd": None, "PidMode": "",
            "Mounts": None, "MaskedPaths": None, "ReadonlyPaths": None, "MemorySwappiness": None, "Devices": [], "Init": None,
            **(host or {}),
        },
        "NetworkingConfig": {"EndpointsConfig": {"x_serving": {"Aliases": ["replicas"]}, "x_control": None}},
        **changes,
    }  # fmt: skip
    return json.dumps(config).encode()


def service(**changes: Any) -> bytes:
    """The body with which the client changes the replicas and the image of a service."""
    spec = {
        "Image": "bunriwiki-versions:0123@sha256:00", "Env": ["A=b"], "Isolation": "default", "CapabilityDrop": ["ALL"],
        "Privileges": {"CredentialSpec": None, "SELinuxContext": None, "NoNewPrivileges": False},
        "DNSConfig": {}, "Mounts": [{"Type": "volume", "Source": "x_store", "Target": "/store", "ReadOnly": True}], **changes,
    }  # fmt: skip
    template = {"ContainerSpec": spec, "ForceUpdate": 0, "Runtime": "container", "Networks": [{"Target": "n"}]}
    return json.dumps({"Name": "x", "Labels": {}, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": 1}}}).encode()


def test_a_replica_is_allowed() -> None:
    check(CREATE, container())
    check(CREATE, container({"Mounts": [{"Type": "volume", "Source": "x_store", "Target": "/store", "VolumeOptions": {}}]}))
    check(CREATE, container({"Mounts": [{"Type": "tmpfs", "Target": "/x"}]}))
    check(UPDATE, service())


def test_the_volumes_of_the_service_are_allowed() -> None:
    described = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    volumes = described["services"]["service"]["volumes"]
    assert volumes
    check(CREATE, container({"Binds": [f"x_{volume}" for volume in volumes]}))
    stack = yaml.safe_load((ROOT / "deploy" / "swarm" / "stack.yml").read_text(encoding="utf-8"))
    for name in ("service-a", "service-b", "trial"):
        named = [volume.split(":") for volume in stack["services"][name]["volumes"] if isinstance(volume, str)]
        mounts = [{"Type": "volume", "Source": f"x_{source}", "Target": place} for source, place, *_ in named]
        check(UPDATE, service(Mounts=mounts))


@pytest.mark.parametrize(
    "host",
    [
        {"Binds": ["/:/store"]},
        {"Binds": ["../x:/store"]},
        {"Binds": ["x_store:/etc"]},
        {"Binds": ["x_logs:/logs/../etc"]},
        {"Binds": ["/var/log:/logs"]},
        {"Binds": ["x_store:/store/../etc"]},
        {"Binds": "x_store:/store"},
        {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/store"}]},
        {"Mounts": [{"Type": "volume", "Source": "/", "Target": "/store"}]},
        {"Mounts": [{"Type": "tmpfs", "Source": "/", "Target": "/store"}]},
        {"Mounts": [{"Type": "volume", "Source": "x", "Target": "/store", "VolumeOptions": {"DriverConfig": {"Name": "x"}}}]},
        {"Mounts": [{"Type": "volume", "Source": "x", "Target": "/store", "volumeoptions": {"DriverConfig": {}}}]},
        {"Mounts": ["x"]},
        {"Privileged": True},
        {"privileged": True},
        {"CapAdd": ["SYS_ADMIN"]},
        {"CapDrop": None},
        {"CapDrop": ["NET_RAW"]},
        {"CapDrop": "ALL"},
        {"Devices": [{"PathOnHost": "/dev/sda"}]},
        {"DeviceRequests": [{}]},
        {"PidMode": "host"},
        {"IpcMode": "host"},
        {"UTSMode": "host"},
        {"UsernsMode": "host"},
        {"CgroupnsMode": "host"},
        {"CgroupParent": "/x"},
        {"NetworkMode": "host"},
        {"NetworkMode": "container:edge"},
        {"SecurityOpt": ["seccomp=unconfined"]},
        {"Runtime": "x"},
        {"Sysctls": {"kernel.x": "1"}},
        {"VolumesFrom": ["edge"]},
        {"VolumeDriver": "x"},
        {"MaskedPaths": []},
        {"ReadonlyPaths": []},
        {"PortBindings": {"3000/tcp": [{"HostPort": "80"}]}},
        {"LogConfig": {"Type": "syslog"}},
        {"OomKillDisable": True},
        {"SomethingNew": 1},
    ],
    ids=str,
)  # fmt: skip
def test_privileges_are_rejected(host: dict[str, Any]) -> None:
    with pytest.raises(RejectedBodyError):
        check(CREATE, container(host))


@pytest.mark.parametrize(
    "changes",
    [
        {"Image": "alpine"},
        {"Image": "evil/bunriwiki/../alpine"},
        {"Image": None},
        {"User": "0"},
        {"Cmd": ["sh"]},
        {"Entrypoint": ["sh"]},
        {"Volumes": {"/": {}}},
        {"HostConfig": None},
        {"hostconfig": {"Privileged": True}},
        {"NetworkingConfig": {"EndpointsConfig": {"host": {}}}},
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}},
        {"NetworkingConfig": []},
    ],
    ids=str,
)
def test_other_containers_are_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(RejectedBodyError):
        check(CREATE, container(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"Image": "alpine"},
        {"Command": ["sh"]},
        {"Args": ["sh"]},
        {"Privileges": {"SELinuxContext": {"Disable": True}}},
        {"User": "0"},
        {"CapabilityAdd": ["ALL"]},
        {"CapabilityDrop": []},
        {"Privileges": {"Seccomp": {}}},
        {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/store"}]},
        {"Secrets": [{}]},
    ],
    ids=str,
)
def test_other_services_are_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(RejectedBodyError):
        check(UPDATE, service(**changes))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        container().replace(b'"Privileged": false', b'"Privileged": false, "privileged": true'),
        container().replace(b'"User": ""', b'"User": "", "User": "0"'),
    ],
    ids=["nothing", "a list", "null", "deep", "another case", "twice"],
)
def test_what_the_engine_could_read_differently_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedBodyError):
        check(CREATE, body)


def test_what_confines_a_container_must_be_there() -> None:
    for body, path in ((container(), CREATE), (service(), UPDATE)):
        described = json.loads(body)
        for name in ("HostConfig", "TaskTemplate"):
            described.pop(name, None)
        with pytest.raises(RejectedBodyError, match="is missing"):
            check(path, json.dumps(described).encode())


async def test_the_answers_to_the_proxy() -> None:
    transport = httpx.ASGITransport(make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://check") as client:
        assert (await client.post(CREATE, content=container())).status_code == 200
        rejected = await client.post(CREATE, content=container({"Privileged": True}))
        assert rejected.status_code == 403
        assert "HostConfig.Privileged" in rejected.text
        assert (await client.post(CREATE, content=b" " * (MAX_BODY_BYTES + 1))).status_code == 403
        assert (await client.get("/livez")).status_code == 200
