"""Programs that are not Python packages."""

from __future__ import annotations

import shutil
from pathlib import Path

DEBIAN_PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "npm": "npm",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
}


def program(name: str) -> Path:
    """The path of a program. Raises FileNotFoundError, which says what to install."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"{name} is not installed. On Debian: apt-get install --no-install-recommends {DEBIAN_PACKAGES[name]}"
        )
    return Path(found)
