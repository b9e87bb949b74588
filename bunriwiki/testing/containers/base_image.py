"""A stand-in for `python:3.11-slim`, for machines that can pull no image: a minimal Debian 12 with Debian's Python 3.11.

What differs from the real image: Debian's patches of Python, its place (/usr/bin; /usr/local/bin has links to it), and its
packages of pip and venv. As in the real image, the standard library has no bytecode, and pip may install for the system.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bunriwiki.testing.containers.engine import DOCKER, Engine

NAME = "python:3.11-slim"
RELEASE = "bookworm"  # the newest Debian that has Python 3.11
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-pip,python3-venv"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_base_image(engine: Engine) -> None:
    """Make the image, unless the engine has it. Takes most of a minute, and needs the network."""
    if engine.has_image(NAME):
        return
    root = engine.folder / "base"
    shutil.rmtree(root, ignore_errors=True)
    engine.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, root])
    _resemble(root)
    with subprocess.Popen(["/usr/bin/tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        command = [DOCKER, "import", "--change", f"ENV PATH={PATH}", "--change", 'CMD ["python3"]', "-", NAME]
        subprocess.run(command, stdin=tar.stdout, env=engine.environment, stdout=subprocess.DEVNULL, check=True)
    shutil.rmtree(root)


def _resemble(root: Path) -> None:
    """Remove what the real image does not have either."""
    for folder in [*root.glob("usr/lib/python3*/**/__pycache__"), root / "var/cache/apt/archives", root / "var/lib/apt/lists"]:
        shutil.rmtree(folder, ignore_errors=True)
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    for name in ("python3.11", "python3", "python"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
