"""The folders of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MODELS = ROOT / "models"  # the bundled fallback models
SAMPLES = ROOT / "tests" / "data"
PHOTOS = SAMPLES / "photos"
SERVE_ENV = ROOT / ".venv"  # the environment that serves in production
