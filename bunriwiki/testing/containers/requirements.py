"""What the tests in containers require of this machine."""

from __future__ import annotations

import os
import shutil

DOCKERD = "/usr/sbin/dockerd"
REGISTRY = "/usr/bin/docker-registry"
# The programs, and the packages of Debian that have them.
PROGRAMS = {
    DOCKERD: "docker.io",
    REGISTRY: "docker-registry",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/bin/busybox": "busybox-static",
    "/usr/bin/prometheus": "prometheus",
    "/usr/bin/prometheus-alertmanager": "prometheus-alertmanager",
    "/usr/bin/curl": "curl",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/ip": "iproute2",
    "/usr/bin/slirp4netns": "slirp4netns",
}


def missing() -> str | None:
    """A sentence on what this machine lacks to run the tests in containers; None if it lacks nothing."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if os.geteuid() == 0 and not packages:
        return None
    needs = [*(["root"] if os.geteuid() else []), *([f"Debian's packages {' '.join(packages)}"] if packages else [])]
    return f"The tests in containers start a Docker engine, which requires {' and '.join(needs)}."
