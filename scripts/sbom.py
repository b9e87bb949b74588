"""Write the bill of materials (CycloneDX 1.6, JSON) of the image IMAGE to FILE.

.venv-dev/bin/python scripts/sbom.py IMAGE FILE

It lists what is in the image, not what was meant to be: a container of the image reports it (scripts/inventory.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

INVENTORY = Path(__file__).with_name("inventory.py")


def inventory(image: str) -> dict[str, list[dict[str, str]]]:
    """What a container of `image` reports."""
    command = ["docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=python3", image, "-"]
    done = subprocess.run(command, input=INVENTORY.read_bytes(), capture_output=True, check=True)  # noqa: S603 (an image's name)
    found: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return found


def bill_of_materials(image: str, found: dict[str, list[dict[str, str]]]) -> str:
    """The document, as JSON."""
    bom = Bom()
    bom.metadata.component = Component(name=image, type=ComponentType.CONTAINER)
    licenses = LicenseFactory()
    for item in found["debian"]:
        url = PackageURL("deb", "debian", item["name"], item["version"], {"arch": item["architecture"]})
        bom.components.add(_component(item, ComponentType.LIBRARY, purl=url))
    for item in found["python"]:
        known = [licenses.make_from_string(item["license"])] if item["license"] else []
        url = PackageURL("pypi", None, item["name"].lower(), item["version"])
        bom.components.add(_component(item, ComponentType.LIBRARY, purl=url, licenses=known))
    for item in found["models"]:
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=item["sha256"])]
        bom.components.add(_component(item, ComponentType.MACHINE_LEARNING_MODEL, hashes=hashes))
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _component(item: dict[str, str], kind: ComponentType, **fields: Any) -> Component:
    reference = str(fields.get("purl", f"model:{item['name']}"))
    return Component(name=item["name"], version=item.get("version"), type=kind, bom_ref=reference, **fields)


if __name__ == "__main__":
    name, target = sys.argv[1:]
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(bill_of_materials(name, inventory(name)), encoding="utf-8")
