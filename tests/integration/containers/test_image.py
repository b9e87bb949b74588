"""The service's image: what is in it, and what is not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bunriwiki.testing.containers.base_image import NAME as BASE
from bunriwiki.testing.containers.engine import DOCKER, Engine
from bunriwiki.testing.containers.images import BINARIES, Images
from bunriwiki.testing.containers.pip_secrets import Secrets
from bunriwiki.testing.paths import ROOT

MAX_MEGABYTES = 750  # above the base image
# What is in an image, by path: the digests of our files, and the versions of the packages.
CONTENT = """
import hashlib, json, pathlib, importlib.metadata as m
app = pathlib.Path("/app")
files = {str(p.relative_to(app)): hashlib.sha256(p.read_bytes()).hexdigest() for p in app.rglob("*") if p.is_file()}
print(json.dumps({"files": files, "packages": sorted(f"{d.metadata['Name']}=={d.version}" for d in m.distributions())}))
"""


@pytest.fixture(scope="module")
def image(images: Images) -> str:
    return images.build("service", "--build-arg=VERSION=1.2.3", "--build-arg=REVISION=abc")


def run(engine: Engine, image: str, *command: str) -> str:
    """What a command prints in a container of the image."""
    return engine.docker("run", "--rm", "--read-only", "--network=none", f"--entrypoint={command[0]}", image, *command[1:])


def content(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(engine, image, "python3", "-c", CONTENT))
    return found


def inspect(engine: Engine, image: str) -> dict[str, Any]:
    [found] = json.loads(engine.docker("image", "inspect", image))
    return dict(found)


def test_it_is_small(engine: Engine, image: str) -> None:
    above = (inspect(engine, image)["Size"] - inspect(engine, BASE)["Size"]) / 1e6
    print(f"{above:.0f} MB above the base image")
    assert above <= MAX_MEGABYTES


def test_it_has_no_torch_no_compiler_and_no_pip(engine: Engine, image: str) -> None:
    packages = {package.split("==")[0].lower() for package in content(engine, image)["packages"]}
    assert "bentoml" in packages
    assert packages.isdisjoint({"torch", "pip", "setuptools", "ultralytics", "transformers"})
    script = (
        "command -v gcc cc make curl wget; ls -d /root/.cache /etc/pip.conf /run/secrets/* /app/tests /app/model_sync; true"
    )
    assert run(engine, image, "sh", "-c", f"{script} 2>/dev/null") == ""


def test_nothing_of_the_build_machine_is_in_it(engine: Engine, image: str, secrets: Secrets) -> None:
    history = engine.docker("history", "--no-trunc", image) + json.dumps(inspect(engine, image))
    for line in secrets.pip_conf.read_text().splitlines()[1:]:
        assert line.partition("=")[2].strip() not in history
    found = run(engine, image, "sh", "-c", "grep -rIl 'find-links' /etc /opt/serve/bin /opt/serve/*.cfg /app; true")
    assert found == ""


def test_its_user_its_labels_and_its_health_check(engine: Engine, image: str) -> None:
    found = inspect(engine, image)["Config"]
    assert found["User"] == "10001:10001"
    labels = {name.rpartition(".")[2]: value for name, value in found["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("bunriwiki", "1.2.3", "abc")
    assert labels["licenses"] == "AGPL-3.0-or-later"
    assert found["Healthcheck"]["Test"][0] == "CMD"
    assert "curl" not in json.dumps(found)


def test_built_twice_what_is_ours_is_the_same(engine: Engine, image: str, images: Images) -> None:
    first = content(engine, image)
    # Another argument, so that the engine does not take the result from its cache: the code is compiled again.
    engine.docker("build", "--build-arg=SOURCE=./.", "--target=code", "--tag=bunriwiki-code", ROOT)
    again = content(engine, "bunriwiki-code")
    assert first["files"] == again["files"]
    assert len(first["files"]) > 300


def test_the_dockerfile_has_no_findings() -> None:
    done = subprocess.run([BINARIES / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def bill_of_materials(engine: Engine, image: str, file: Path) -> list[dict[str, Any]]:
    """The components of an image, by `scripts/sbom.py`, in a document that is valid."""
    engine.run([BINARIES / "python", ROOT / "scripts" / "sbom.py", image, file])
    text = file.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components: list[dict[str, Any]] = json.loads(text)["components"]
    return components


def test_the_bill_of_materials_lists_what_is_in_it(engine: Engine, image: str, tmp_path: Path) -> None:
    components = bill_of_materials(engine, image, tmp_path / "sbom.json")
    listed = {f"{part['name']}=={part['version']}" for part in components if part.get("purl", "").startswith("pkg:pypi/")}
    assert set(content(engine, image)["packages"]) == listed
    assert {part["name"] for part in components if part["type"] == "machine-learning-model"} == {"yolo", "kcbert", "sentiment"}
    assert any(part.get("purl", "").startswith("pkg:deb/debian/libc6@") for part in components)


def test_the_bill_of_materials_of_the_sidecar_has_both_environments(engine: Engine, images: Images, tmp_path: Path) -> None:
    names = {part["name"] for part in bill_of_materials(engine, images.build("model-sync"), tmp_path / "sbom.json")}
    assert {"torch", "mlflow", "bentoml", "libgl1"} <= names
    assert not {name for name in names if name.startswith(("nvidia-cu", "nvidia-nccl"))}  # of the CUDA build of torch


def test_the_image_of_the_bento_holds_the_same(engine: Engine, image: str, secrets: Secrets, tmp_path: Path) -> None:
    environment = {
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "PATH": f"{Path(DOCKER).parent}:{os.environ['PATH']}",
        "SBOM": str(tmp_path / "sbom"),
        **secrets.environment,
    }
    printed = engine.run([ROOT / "scripts" / "image"], environment=environment)
    bento = printed.split()[-1]
    assert content(engine, bento) == content(engine, image)
    same = ("User", "Env", "Entrypoint", "Cmd", "Healthcheck", "ExposedPorts", "WorkingDir", "StopSignal")
    ours, bentos = inspect(engine, image)["Config"], inspect(engine, bento)["Config"]
    assert {name: bentos.get(name) for name in same} == {name: ours.get(name) for name in same}
    assert bentos["Labels"]["org.opencontainers.image.version"] == bento.partition(":")[2]
    assert len(list((tmp_path / "sbom").iterdir())) == 1
