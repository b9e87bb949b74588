"""What is in an image, as JSON: packages of Debian and Python, bundled models. Runs in a container of the image."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import distributions
from pathlib import Path

ENVIRONMENTS = ("/opt/serve", "/opt/sync")
MODELS = Path("/app/models")


def debian() -> list[dict[str, str]]:
    """Debian's packages, from the database of dpkg."""
    entries = Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n")
    fields = [dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and line[0] != " ") for entry in entries]
    installed = [entry for entry in fields if entry.get("Status") == "install ok installed"]
    return [
        {"name": entry["Package"], "version": entry["Version"], "architecture": entry["Architecture"]} for entry in installed
    ]


def python() -> list[dict[str, str]]:
    """The packages of all environments, each once."""
    folders = [str(path) for root in ENVIRONMENTS for path in Path(root).glob("lib/python3.*/site-packages")]
    found = {(item.metadata["Name"], item.version): item.metadata["License-Expression"] for item in distributions(path=folders)}
    return [{"name": name, "version": version, "license": found[name, version] or ""} for name, version in sorted(found)]


def models() -> list[dict[str, str]]:
    """The bundled models, each with the digest of its manifest, which has the digests of its files."""
    manifests = sorted(MODELS.glob("*/manifest.yaml"))
    return [{"name": path.parent.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in manifests]


if __name__ == "__main__":
    json.dump({"debian": debian(), "python": python(), "models": models()}, sys.stdout)
