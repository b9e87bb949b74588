"""What takes the room in the images, how long a container takes to be ready, and its memory.

python -m benchmarks.images [--write]

Requires what the tests in containers require (docs/containers.md), and uses the engine in the folder BUNRIWIKI_ENGINE, or a new
one. With --write it replaces the tables in docs/containers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bunriwiki.testing.containers.base_image import NAME as BASE
from bunriwiki.testing.containers.engine import DockerError, Engine
from bunriwiki.testing.containers.images import IMAGES, Images
from bunriwiki.testing.containers.pip_secrets import pip_secrets
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.waiting import wait_until

PAGE = ROOT / "docs" / "containers.md"
LARGEST = 8  # packages that the tables name
LIMITS = ("--cpus=2", "--memory=3g")  # those of docker-compose.yml
HEALTH = ("python3", "-m", "bunriwiki.container.health", "/readyz")
START_SECONDS = 120.0  # at most, until /readyz is 200
# These run in a container.
USED = "from bunriwiki.container.limits import memory; print(memory().used)"
PARTS = """
import collections, json, pathlib
sizes = collections.Counter()
for path in (path for root in ("/app", "/opt") for path in pathlib.Path(root).rglob("*")):
    if path.is_symlink() or not path.is_file():
        continue
    if path.suffix == ".pyc":
        name = "bytecode"
    elif path.is_relative_to("/app"):
        name = "models" if path.is_relative_to("/app/models") else "code"
    else:
        name = path.parts[6].removesuffix(".libs") if len(path.parts) > 6 else "environment"
    sizes[name] += path.stat().st_size
print(json.dumps(sizes))
"""


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f}"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size(engine: Engine, image: str) -> int:
    """The bytes of an image, with its base image."""
    [found] = json.loads(engine.docker("image", "inspect", image))
    return int(found["Size"])


def parts(engine: Engine, image: str) -> str:
    """The table of what takes the room in an image."""
    found: dict[str, int] = json.loads(
        engine.docker("run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", PARTS)
    )
    total = size(engine, image) - size(engine, BASE)
    rows = [(name, found.pop(key)) for name, key in (("models", "models"), ("our code", "code"), ("all bytecode", "bytecode"))]
    rows += sorted(found.items(), key=lambda item: -item[1])[:LARGEST]
    rows += [("the rest", total - sum(count for _, count in rows)), ("above the base image", total)]
    return table(("part", "MB"), [(name, megabytes(count)) for name, count in rows])


@contextmanager
def container(engine: Engine, image: str) -> Iterator[str]:
    name = engine.docker("run", "--detach", "--read-only", "--tmpfs=/tmp", *LIMITS, image).strip()
    try:
        yield name
    finally:
        engine.docker("rm", "--force", name)


def start(engine: Engine, image: str) -> str:
    """The table of a start: the seconds until /readyz is 200, and the memory then."""
    began = time.monotonic()
    with container(engine, image) as name:
        wait_until(lambda: is_ready(engine, name), START_SECONDS, interval=0.1)
        took = time.monotonic() - began
        used = float(engine.docker("exec", name, "python3", "-c", USED))
    return table(("from `docker run` to ready, s", "memory then, MB"), [(f"{took:.1f}", megabytes(used))])


def is_ready(engine: Engine, name: str) -> bool:
    try:
        engine.docker("exec", name, *HEALTH)
    except DockerError:
        return False
    return True


def sizes(engine: Engine) -> str:
    base = size(engine, BASE)
    rows = [(image, megabytes(size(engine, image)), megabytes(size(engine, image) - base)) for image in IMAGES.values()]
    return table(("image", "MB", "above its base"), rows)


def measure(engine: Engine, images: Images) -> dict[str, str]:
    """The tables, by their names in docs/containers.md."""
    service, sidecar = images.build("service"), images.build("model-sync")
    return {
        "sizes": sizes(engine),
        "parts": parts(engine, service),
        "sidecar-parts": parts(engine, sidecar),
        "start": start(engine, service),
    }


def write(tables: dict[str, str], page: Path = PAGE) -> None:
    """Replace the tables in `page`, each after the comment with its name."""
    text = page.read_text(encoding="utf-8")
    for name, found in tables.items():
        before, mark, after = text.partition(f"<!-- {name} -->\n")
        text = before + mark + found + "\n" + re.sub(r"\A(\|.*\n)*", "", after)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/containers.md")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bunriwiki-engine-") as folder,
        Engine(Path(os.environ.get("BUNRIWIKI_ENGINE", folder))) as engine,
        pip_secrets(Path(folder) / "secrets", engine.gateway) as secrets,
    ):
        tables = measure(engine, Images(engine, secrets))
    sys.stdout.write("\n\n".join(f"{name}\n\n{found}" for name, found in tables.items()) + "\n")
    if arguments.write:
        write(tables)


if __name__ == "__main__":
    main()
