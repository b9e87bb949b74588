"""Prometheus and Alertmanager with the configuration of this repository, in minutes instead of days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.programs import program
from bunriwiki.testing.server_process import ServerProcess

CONFIGURATION = ROOT / "prometheus"
FASTER = 60  # so many times: an hour becomes a minute
MIN_SECONDS = 5  # of a range: five scrapes
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Samples = list[dict[str, Any]]  # as Prometheus' API returns them


def shortened(rules: str) -> str:
    """The rules with every `for:` and every range divided by FASTER. Names and limits stay as they are."""
    rules = re.sub(r"(?<=[\[ ])(\d+)([smhd])(?=\])", _range, rules)
    rules = re.sub(r"(?<=offset )(\d+)([smhd])", _range, rules)
    return re.sub(r"(?<=    for: )(\d+)([smhd])", lambda found: f"{max(1, _seconds(found) // FASTER)}s", rules)


def _range(found: re.Match[str]) -> str:
    return f"{max(MIN_SECONDS, _seconds(found) // FASTER)}s"


def _seconds(found: re.Match[str]) -> int:
    return int(found[1]) * UNITS[found[2]]


class Alertmanager(ServerProcess):
    """Alertmanager that delivers to the URL `webhook` at once, with its data in `folder`."""

    def __init__(self, folder: Path, webhook: str) -> None:
        folder.mkdir()
        configuration = yaml.safe_load((CONFIGURATION / "alertmanager.yml").read_text())
        for route in (configuration["route"], *configuration["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s"}
        configuration["receivers"][0]["webhook_configs"][0]["url"] = webhook
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
        port = free_port()
        command: list[str | Path] = [
            program("prometheus-alertmanager"),
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        super().__init__(command, port, "/-/ready", folder=folder)

    def inhibited(self) -> set[str]:
        """The names of the alerts that another alert silences."""
        alerts = CLIENT.get(f"{self.url}/api/v2/alerts", timeout=10).json()
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"]}


class Prometheus(ServerProcess):
    """Prometheus that scrapes once a second, with its data in `folder`.

    `targets` has the address of each job of the scrape configuration, but its own; the alerts go to that of `alertmanager`.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        (folder / "rules").mkdir(parents=True)
        port = free_port()
        addresses = {**targets, "prometheus": f"127.0.0.1:{port}"}
        configuration = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
        configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [addresses["alertmanager"]]}]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        for path in (CONFIGURATION / "rules").glob("*.yml"):
            (folder / "rules" / path.name).write_text(shortened(path.read_text()))
        command: list[str | Path] = [
            program("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(command, port, "/-/ready", folder=folder)

    def query(self, expr: str) -> Samples:
        """The result of an instant query. Raises ValueError with Prometheus' message if it is not valid."""
        return self._result("query", query=expr)

    def query_range(self, expr: str, start: float, end: float, step: float = 1) -> Samples:
        """The result of a range query; times in seconds since the epoch. Raises ValueError as `query`."""
        return self._result("query_range", query=expr, start=str(start), end=str(end), step=str(step))

    def label_values(self, selector: str, label: str) -> list[str]:
        """The values of a label in the series of `selector`, as a variable of a dashboard has them."""
        answer = CLIENT.get(f"{self.url}/api/v1/label/{label}/values", params={"match[]": selector}, timeout=30)
        return list(answer.json()["data"])

    def _result(self, call: str, **parameters: str) -> Samples:
        answer = CLIENT.post(f"{self.url}/api/v1/{call}", data=parameters, timeout=60).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters['query']}: {answer['error']}")
        found = answer["data"]["result"]
        return [sample for sample in found if any(value != "NaN" for _, value in sample.get("values", [sample.get("value")]))]
