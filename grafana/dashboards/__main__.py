"""Write the dashboards' JSON.

python -m grafana.dashboards
"""

from __future__ import annotations

from pathlib import Path

from grafana.dashboards import DASHBOARDS
from grafana.dashboards.build import to_json

FOLDER = Path(__file__).parent.parent / "json"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(to_json(dashboard), encoding="utf-8")
