"""A real Prometheus and a real Alertmanager beside the real service, the real sidecar and an S3 server: what dashboards, alerts
and runbooks ask for is there, and alerts are delivered and resolved.

Under load, versions are promoted, rolled back and rejected, an import crashes, feedback comes in, a runner hangs and the
sidecar stops. Prometheus scrapes once a second; the rules are those of the repository, 60 times faster
(`bunriwiki/testing/prometheus.py`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.testing.load import background_load
from bunriwiki.testing.metrics_table import check_metrics_table
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.prometheus import CONFIGURATION, Alertmanager, Prometheus, shortened
from bunriwiki.testing.publisher import Publisher, s3_environment
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN, Sidecar
from bunriwiki.testing.versions import compiled, pyfunc
from bunriwiki.testing.waiting import wait_until
from bunriwiki.testing.webhook_receiver import Status, WebhookReceiver
from grafana.dashboards import DASHBOARDS
from grafana.dashboards.build import EVENTS
from grafana.dashboards.declarations import Dashboard
from model_sync.rollout.state import State

PAUSE_SECONDS = 0.05  # of a client between two requests: without it, the load alone takes two cores, and imports wait for them
DELIVERY_SECONDS = 60.0  # from a cause to the delivery of its alert, on a busy machine
RATER = "a-rater"
KNOWN = {"Authorization": f"Bearer {RATER}"}
METRIC = re.compile(r"\b(?:(?:[a-z]+:)?bunriwiki_[a-z_]+(?::\w+)?|up|model_hot_swap_total)\b(?![=\"])")
ALERTS = [
    rule for group in yaml.safe_load((CONFIGURATION / "rules" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
COMMANDS = sorted(
    {
        command
        for page in (ROOT / "docs" / "runbooks").glob("*.md")
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for command in block.strip().splitlines()
    }
)


@dataclass
class Deployment:
    """All that runs. `began` is when Prometheus had scraped everything once."""

    registry: Publisher
    server: Server
    sidecar: Sidecar
    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: WebhookReceiver
    began: float = field(default_factory=time.time)

    def wait_for_delivery(self, alert: str, status: Status, seconds: float = DELIVERY_SECONDS, **labels: str) -> None:
        def describe() -> object:
            return [(found.status, found.labels) for found in self.receiver.deliveries], self.prometheus.query("ALERTS")

        wait_until(lambda: self.receiver.has(alert, status, **labels), seconds, describe, interval=0.2)

    def command(self, *line: str) -> None:
        """Run a command as an operator does."""
        subprocess.run(
            [sys.executable, "-m", "model_sync", *line], cwd=ROOT, env=self.environment, check=True, capture_output=True
        )

    def rate(self, answers: int, *, right: bool, headers: dict[str, str]) -> None:
        """Have kcbert answer, and give feedback on each answer: that it was right, or wrong."""
        for _ in range(answers):
            answer = httpx.post(f"{self.server.url}/kcbert/prediction", json={"text": "좋은 하루 보내세요"}, timeout=30)
            label = answer.json()["label"] if right else "hate"
            body = {"ticket": answer.headers["X-Feedback-Ticket"], "label": label}
            rated = httpx.post(f"{self.server.url}/feedback", json=body, headers=headers, timeout=30)
            assert (rated.status_code, rated.json()) == (201, {"correct": right, "known": headers == KNOWN})

    @property
    def environment(self) -> dict[str, str]:
        """What an operator's commands need."""
        store = str(self.sidecar.layout.root)
        return {
            **os.environ,
            "BUNRIWIKI_SYNC_URL": self.sidecar.url,
            "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
            "BUNRIWIKI_MODEL_STORE": store,
        }

    def substituted(self, expr: str) -> str:
        """The expression with the values of a dashboard's variables, over the whole time."""
        window = f"{int(time.time() - self.began) + 1}s"
        expr = expr.replace("$__rate_interval", "10s").replace("$__range", window)
        return re.sub(r"\$[a-z]+", ".+", expr)

    def over_time(self, expr: str) -> bool:
        """Whether the expression had a result at any time."""
        return bool(self.prometheus.query_range(self.substituted(expr), self.began, time.time()))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("monitoring")
    settings = {
        "BUNRIWIKI_SOURCES": " ".join(f"{model}=s3" for model in MODELS),
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_CANARY_SHARE": "0.5",
        "BUNRIWIKI_CANARY_SECONDS": "5",
        "BUNRIWIKI_DEADLINE_SECONDS": "3",
        "BUNRIWIKI_GATE_LATENCY_RATIO": "100",  # all versions are the same model: only a busy machine could reject one
        "BUNRIWIKI_MONITOR_LATENCY_RATIO": "100",
        "BUNRIWIKI_MONITOR_ERROR_POINTS": "100",
        "BUNRIWIKI_LOG_REQUESTS": "false",
        "BUNRIWIKI_FEEDBACK_KEY": "a-secret-of-a-test-that-is-long-enough",
        "BUNRIWIKI_FEEDBACK_TOKEN": RATER,
        "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
    }
    with ExitStack() as stack:
        s3 = stack.enter_context(SeaweedFS(root / "s3"))
        registry = Publisher(s3)
        registry.announce()  # no version yet
        environment = {**settings, **s3_environment(s3)}
        receiver = stack.enter_context(WebhookReceiver())
        sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
        stack.callback(sidecar.stop)
        sidecar.start()
        State(at=time.time()).write(sidecar.layout.rollout_state)  # as the rollout's process does, which requires an engine
        server = Server(root / "server.log", grpc=True, environment={**environment, "BUNRIWIKI_SYNC_URL": sidecar.url})
        stack.callback(server.stop)
        server.wait_until_ready()
        alertmanager = stack.enter_context(Alertmanager(root / "alertmanager", receiver.url))
        targets = {
            "bunriwiki-service": server.url,
            "bunriwiki-sidecar": sidecar.url,
            "alertmanager": alertmanager.url,
        }
        addresses = {job: url.removeprefix("http://") for job, url in targets.items()}
        prometheus = stack.enter_context(Prometheus(root / "prometheus", addresses))
        wait_until(lambda: len(prometheus.query("up == 1")) == len(addresses) + 1)
        yield Deployment(registry, server, sidecar, prometheus, alertmanager, receiver)


@pytest.fixture(scope="module", autouse=True)
def load(deployment: Deployment) -> Iterator[None]:
    with background_load(deployment.server.url, clients=2, pause=PAUSE_SECONDS):
        yield


def test_the_fallback_is_reported_until_a_version_serves(deployment: Deployment, tmp_path: Path) -> None:
    for model in MODELS:
        deployment.wait_for_delivery("BunriwikiFallbackActive", "firing", model=model)
    for version in ("v1", "v2"):
        deployment.registry.publish("kcbert", version, compiled("kcbert", tmp_path / version, version))
        assert deployment.sidecar.sync("kcbert")["outcomes"]["kcbert"]["status"] == "promoted"
    deployment.wait_for_delivery("BunriwikiFallbackActive", "resolved", model="kcbert")


def test_a_rollback_is_in_the_metrics(deployment: Deployment) -> None:
    deployment.command("rollback", "kcbert")
    wait_until(lambda: deployment.prometheus.query('bunriwiki_rollbacks_total{model="kcbert", reason="operator"} == 1'))
    wait_until(lambda: deployment.prometheus.query('model_version_info{model="kcbert", version="v1"} == 1'))


def test_an_accuracy_that_falls_is_reported(deployment: Deployment) -> None:
    """The accuracy by known feedback: an anonymous client could say anything."""
    deployment.rate(10, right=True, headers=KNOWN)
    deployment.rate(10, right=False, headers={})
    accuracy = 'bunriwiki_feedback_accuracy_ratio{model="kcbert", version="v1", known="%s"} == %d'
    wait_until(lambda: deployment.prometheus.query(accuracy % ("true", 1)))
    wait_until(lambda: deployment.prometheus.query(accuracy % ("false", 0)))
    assert not deployment.prometheus.query('ALERTS{alertname="BunriwikiAccuracyDown"}')
    deployment.rate(10, right=False, headers=KNOWN)
    deployment.wait_for_delivery("BunriwikiAccuracyDown", "firing", model="kcbert", version="v1", known="true")


def test_a_rejected_version_is_reported(deployment: Deployment, tmp_path: Path) -> None:
    deployment.registry.publish("kcbert", "v3", compiled("kcbert", tmp_path / "v3", "v3", rotation=1))
    assert deployment.sidecar.sync("kcbert")["outcomes"]["kcbert"]["status"] == "rejected"
    deployment.wait_for_delivery("BunriwikiVersionQuarantined", "firing", model="kcbert", reason="quality")


def test_a_failing_import_is_reported_and_resolves(deployment: Deployment, tmp_path: Path) -> None:
    deployment.registry.publish("sentiment", "v1", pyfunc(tmp_path / "v1", predict="import os; os._exit(1)"))
    assert deployment.sidecar.sync("sentiment")["outcomes"]["sentiment"]["status"] == "failed"
    deployment.wait_for_delivery("BunriwikiImportFailing", "firing", model="sentiment")
    deployment.registry.publish("sentiment", "v2", pyfunc(tmp_path / "v2"))
    assert deployment.sidecar.sync("sentiment")["outcomes"]["sentiment"]["status"] == "promoted"
    deployment.wait_for_delivery("BunriwikiImportFailing", "resolved", model="sentiment")


def test_a_burning_error_budget_is_reported(deployment: Deployment) -> None:
    """A runner hangs, so that the deadline of every request to it passes. Its windows pass during the next tests."""
    runner = deployment.server.workers()["kcbert"]
    runner.send_signal(signal.SIGSTOP)
    try:
        deployment.wait_for_delivery("BunriwikiErrorBudgetBurnsFast", "firing", model="kcbert")
    finally:
        runner.send_signal(signal.SIGCONT)
    assert not deployment.receiver.has("BunriwikiErrorBudgetBurnsFast", "firing", model="yolo")


def test_a_target_that_is_down_is_reported_and_silences_other_alerts_about_it(deployment: Deployment, tmp_path: Path) -> None:
    deployment.registry.publish("kcbert", "v4", compiled("kcbert", tmp_path / "v4", "v4", rotation=1))
    deployment.sidecar.sync("kcbert")
    wait_until(lambda: deployment.prometheus.query('ALERTS{alertname="BunriwikiVersionQuarantined", alertstate="firing"}'))
    deployment.sidecar.stop()
    deployment.wait_for_delivery("BunriwikiTargetDown", "firing", job="bunriwiki-sidecar")
    wait_until(lambda: "BunriwikiVersionQuarantined" in deployment.alertmanager.inhibited())
    deployment.sidecar.start()
    deployment.wait_for_delivery("BunriwikiTargetDown", "resolved", job="bunriwiki-sidecar")


def test_drift_is_reported(deployment: Deployment) -> None:
    """The load is the same few inputs again and again. The window of the new sidecar fills anew."""
    wait_until(lambda: deployment.prometheus.query("bunriwiki_drift_psi > bunriwiki_drift_psi_threshold"), 180)
    deployment.wait_for_delivery("BunriwikiDrift", "firing", model="kcbert", version="v1")


def test_an_error_budget_that_no_longer_burns_is_resolved(deployment: Deployment) -> None:
    deployment.wait_for_delivery("BunriwikiErrorBudgetBurnsFast", "resolved", 120, model="kcbert")


def test_the_tables_of_the_documentation_are_what_a_scrape_of_the_sidecar_has(deployment: Deployment) -> None:
    answer = httpx.get(f"{deployment.sidecar.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=30)
    families = list(text_string_to_metric_families(answer.text))
    ours = [family for family in families if not family.name.startswith("process_")]
    assert len(families) - len(ours) == 6
    check_metrics_table("The sidecar", ours, {"M": len(MODELS), "K": 4})


def test_the_deliveries_name_their_runbooks(deployment: Deployment) -> None:
    for found in deployment.receiver.deliveries:
        assert found.annotations["runbook_url"].endswith(f"/docs/runbooks/{found.labels['alertname']}.md")
        assert "docs" not in found.labels


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_panel_has_data(deployment: Deployment, dashboard: Dashboard) -> None:
    """Now, or at some time if the panel says why it may be empty."""
    for panel in dashboard.panels:
        for query in panel.queries:
            if panel.empty is None:
                assert deployment.prometheus.query(deployment.substituted(query.expr)), f"{panel.title}: {query.expr}"
            else:
                assert deployment.over_time(query.expr), f"{panel.title}: {query.expr}"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_promotions_and_rollbacks_are_marked(deployment: Deployment, event: object) -> None:
    assert deployment.over_time(event.expr)  # type: ignore[attr-defined]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_variable_has_values(deployment: Deployment, dashboard: Dashboard) -> None:
    for variable in dashboard.variables:
        assert deployment.prometheus.label_values(deployment.substituted(variable.selector), variable.label), variable.name


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_can_be_evaluated(deployment: Deployment, rule: dict[str, str]) -> None:
    """Its expression is valid, and every metric in it has data."""
    expr = shortened(rule["expr"])
    deployment.prometheus.query(expr)
    metrics = set(METRIC.findall(expr))
    assert metrics
    for metric in metrics:
        assert deployment.over_time(metric), metric


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_runbooks_work(deployment: Deployment, command: str) -> None:
    ports = {
        "3000": deployment.server.port,
        "3002": deployment.sidecar.port,
        "9090": deployment.prometheus.port,
        "9093": deployment.alertmanager.port,
    }
    line = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: str(ports[found[0]]), command)
    line = line.replace(".venv-sync/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=deployment.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or "> 0" in command, "no output"
