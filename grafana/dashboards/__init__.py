"""The dashboards, as declarations: a module for each. `python -m grafana.dashboards` writes them to `grafana/json/`."""

from __future__ import annotations

from grafana.dashboards.declarations import Dashboard
from grafana.dashboards.drift import DRIFT
from grafana.dashboards.imports import IMPORTS
from grafana.dashboards.models import MODELS
from grafana.dashboards.overview import OVERVIEW
from grafana.dashboards.workers import WORKERS

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, MODELS, IMPORTS, WORKERS, DRIFT)
