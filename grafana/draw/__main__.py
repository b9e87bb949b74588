"""Draw the dashboards with Grafana's own components in Chromium, from the data of a Prometheus. The pictures are those of
docs/monitoring.md. It needs npm and Chromium.

python -m grafana.draw --prometheus http://127.0.0.1:9090 --minutes 10 --out docs/img
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from grafana.dashboards import DASHBOARDS
from grafana.dashboards.build import to_json

HERE = Path(__file__).parent
WIDTH = 1568
LINE = 34  # pixels of a line of the grid, as in draw.tsx
PAGE = '<!doctype html><link rel="stylesheet" href="draw.css"><body><script src="draw.js"></script></body>'
BUNDLE = ["--bundle", "--format=iife", "--jsx=automatic", "--minify", '--define:process.env.NODE_ENV="production"']
LOADERS = [f"--loader:.{kind}=dataurl" for kind in ("png", "svg", "ttf", "woff", "woff2")]
CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=20000",
]  # fmt: skip


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the default prints every request."""


def build(folder: Path) -> None:
    """Write the page that draws a dashboard to `folder`, with the dashboards."""
    for name in ("draw.tsx", "package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    esbuild = folder / "node_modules" / ".bin" / "esbuild"
    subprocess.run(
        [esbuild, "draw.tsx", *BUNDLE, *LOADERS, "--outfile=page/draw.js", "--log-level=error"], cwd=folder, check=True
    )
    (folder / "page" / "index.html").write_text(PAGE)
    (folder / "page" / "dashboards").mkdir()
    for dashboard in DASHBOARDS:
        (folder / "page" / "dashboards" / f"{dashboard.uid}.json").write_text(to_json(dashboard), encoding="utf-8")


def draw(page: str, dashboard: dict[str, Any], options: dict[str, object], picture: Path) -> None:
    """Write the picture of a dashboard."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * LINE + 60
    query = urlencode({"dashboard": dashboard["uid"], **options})
    command = [
        "chromium",
        *CHROMIUM,
        f"--window-size={WIDTH},{height}",
        f"--screenshot={picture}",
        f"{page}/index.html?{query}",
    ]
    subprocess.run(command, check=True, capture_output=True)
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)  # a third of the size


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the dashboards with Grafana's own components.")
    parser.add_argument("--prometheus", required=True, help="URL of a Prometheus")
    parser.add_argument("--to", type=float, default=time.time(), help="the last second, since the epoch; default: now")
    parser.add_argument("--minutes", type=float, default=10, help="the minutes before that")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build(folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder / "page")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {"prometheus": given.prometheus, "from": given.to - 60 * given.minutes, "to": given.to}
        for dashboard in DASHBOARDS:
            picture = given.out.absolute() / f"{dashboard.uid}.png"
            draw(f"http://127.0.0.1:{server.server_port}", json.loads(to_json(dashboard)), options, picture)
        server.shutdown()


if __name__ == "__main__":
    main()
