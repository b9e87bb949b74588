"""Refuses to start without the secrets of a Compose profile.

python -m bunriwiki.container.secrets NAME...

Exits with 1 and a sentence if one of these environment variables is empty, or still has the text of `.env.example`. Compose
starts the other containers of the profile only after this has exited with 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

PLACEHOLDER = "change-me"
MIN_LENGTH = 12  # of a secret; the length of an access key's name does not matter
NAMES = ("AWS_ACCESS_KEY_ID",)


def complaint(names: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """A sentence about the variables that are no secrets; None if all are."""
    missing = [name for name in names if environment.get(name, "") in {"", PLACEHOLDER}]
    short = [name for name in names if name not in {*missing, *NAMES} and len(environment[name]) < MIN_LENGTH]
    if missing:
        return f"Set {', '.join(missing)} in .env (see .env.example). There are no default passwords, so nothing was started."
    if short:
        return f"{', '.join(short)} in .env must have at least {MIN_LENGTH} characters, so nothing was started."
    return None


if __name__ == "__main__":
    sys.exit(complaint(sys.argv[1:], os.environ))
