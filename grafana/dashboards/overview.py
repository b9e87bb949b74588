"""Overview: the service level objectives, what serves, and the golden signals of each model."""

from __future__ import annotations

from grafana.dashboards.declarations import Colour, Dashboard, Panel, Query, Row, Text
from grafana.dashboards.slo import ERROR_BUDGET, FAST, SLOW, SLOW_BUDGET, error_budget_left, slow_budget_left
from grafana.dashboards.variables import INSTANCE, MODEL

HERE = 'instance=~"$instance", model=~"$model"'
BUDGET: tuple[tuple[float, Colour], ...] = ((0.0, "orange"), (0.25, "green"))

_NO_REQUESTS = Text("Empty while no requests arrive.", "요청이 없으면 비어 있습니다.")

OVERVIEW = Dashboard(
    name="overview",
    title="Bunriwiki: Overview",
    about=Text("Is the service all right, and what does it serve?", "서비스가 정상인지, 무엇을 제공하는지 보여 줍니다."),
    variables=(INSTANCE, MODEL),
    rows=(
        Row(
            "Service level objectives",
            (
                Panel(
                    "Error budget left",
                    Text(
                        "Of the 0.1 % of the requests that may fail, over the time shown; below 0 the objective is missed.",
                        "표시된 기간에 실패해도 되는 요청 0.1 % 중 남은 몫입니다. 0보다 작으면 목표를 지키지 못한 것입니다.",
                    ),
                    (Query(error_budget_left(HERE, "$__range"), "{{model}}"),),
                    unit="percentunit",
                    kind="stat",
                    start="red",
                    steps=BUDGET,
                    minimum=None,
                    empty=_NO_REQUESTS,
                    runbooks=("BunriwikiErrorBudgetBurnsFast", "BunriwikiErrorBudgetBurnsSlowly"),
                    see=("models",),
                    width=6,
                ),
                Panel(
                    "Latency budget left",
                    Text(
                        "Of the 1 % of the answers that may take longer than a second, over the time shown.",
                        "표시된 기간에 1초보다 오래 걸려도 되는 응답 1 % 중 남은 몫입니다.",
                    ),
                    (Query(slow_budget_left(HERE, "$__range"), "{{model}}"),),
                    unit="percentunit",
                    kind="stat",
                    start="red",
                    steps=BUDGET,
                    minimum=None,
                    empty=_NO_REQUESTS,
                    runbooks=("BunriwikiLatencyBudgetBurnsFast", "BunriwikiLatencyBudgetBurnsSlowly"),
                    see=("workers",),
                    width=6,
                ),
                Panel(
                    "Failed requests",
                    Text(
                        "Share of requests that failed through no fault of their own. Red: the budget is gone in 2 days.",
                        "요청 자체의 잘못이 아닌 이유로 실패한 요청의 비율입니다. 빨간색이면 30일 예산이 2일 만에 사라집니다.",
                    ),
                    (
                        Query('model:bunriwiki_error_share:ratio_rate5m{model=~"$model"}', "{{model}}, 5 minutes"),
                        Query('model:bunriwiki_error_share:ratio_rate1h{model=~"$model"}', "{{model}}, 1 hour"),
                    ),
                    unit="percentunit",
                    steps=((SLOW * ERROR_BUDGET, "orange"), (FAST * ERROR_BUDGET, "red")),
                    empty=_NO_REQUESTS,
                    runbooks=("BunriwikiErrorBudgetBurnsFast",),
                    see=("models",),
                    width=6,
                ),
                Panel(
                    "Slow answers",
                    Text("Share of the answers that took longer than a second.", "1초보다 오래 걸린 응답의 비율입니다."),
                    (
                        Query('model:bunriwiki_slow_share:ratio_rate5m{model=~"$model"}', "{{model}}, 5 minutes"),
                        Query('model:bunriwiki_slow_share:ratio_rate1h{model=~"$model"}', "{{model}}, 1 hour"),
                    ),
                    unit="percentunit",
                    steps=((SLOW * SLOW_BUDGET, "orange"), (FAST * SLOW_BUDGET, "red")),
                    empty=_NO_REQUESTS,
                    runbooks=("BunriwikiLatencyBudgetBurnsFast",),
                    see=("workers",),
                    width=6,
                ),
            ),
        ),
        Row(
            "State",
            (
                Panel(
                    "What serves",
                    Text("The version of each model that answers.", "각 모델에서 응답하는 버전입니다."),
                    (Query(f"model_version_info{{{HERE}}} == 1", "{{model}} {{version}}"),),
                    kind="name",
                    see=("models", "imports"),
                    width=6,
                ),
                Panel(
                    "Fallback in use",
                    Text(
                        "On: a worker answers with the version that the repository contains.",
                        "켜짐: 저장소에 포함된 버전으로 응답하는 워커가 있습니다.",
                    ),
                    (Query(f"max by (model) (bunriwiki_fallback_in_use{{{HERE}}})", "{{model}}"),),
                    unit="bool_on_off",
                    kind="stat",
                    steps=((1, "orange"),),
                    runbooks=("BunriwikiFallbackActive",),
                    see=("imports",),
                    width=4,
                ),
                Panel(
                    "Degraded",
                    Text(
                        "On: `GET /v1/models` has reasons why the model is degraded.",
                        "켜짐: `GET /v1/models`에 모델 성능 저하의 이유가 있습니다.",
                    ),
                    (Query(f"max by (model) (bunriwiki_model_degraded{{{HERE}}})", "{{model}}"),),
                    unit="bool_on_off",
                    kind="stat",
                    steps=((1, "orange"),),
                    see=("imports", "workers"),
                    width=4,
                ),
                Panel(
                    "Targets",
                    Text("On: Prometheus can scrape it.", "켜짐: Prometheus가 수집할 수 있습니다."),
                    (Query("up", "{{job}} {{instance}}"),),
                    unit="bool_on_off",
                    kind="stat",
                    start="red",
                    steps=((1, "green"),),
                    runbooks=("BunriwikiTargetDown",),
                    width=5,
                ),
                Panel(
                    "Alerts that fire",
                    Text("By name; each has a runbook.", "이름별로 표시하며, 각각 런북이 있습니다."),
                    (Query('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} ({{severity}})"),),
                    kind="stat",
                    steps=((1, "red"),),
                    width=5,
                    empty=Text("Empty while no alert fires.", "발생한 경보가 없으면 비어 있습니다."),
                ),
            ),
        ),
        Row(
            "Golden signals",
            (
                Panel(
                    "Traffic: inputs answered",
                    Text("Inputs per second, over all protocols.", "모든 프로토콜의 초당 입력 수입니다."),
                    (Query(f"sum by (model) (rate(bunriwiki_predictions_total{{{HERE}}}[$__rate_interval]))", "{{model}}"),),
                    unit="ops",
                    see=("models",),
                    width=6,
                ),
                Panel(
                    "Errors: requests that failed",
                    Text(
                        "Per second and by reason; invalid inputs are the client's fault.",
                        "초당 실패한 요청을 이유별로 보여 줍니다. 잘못된 입력은 클라이언트의 잘못입니다.",
                    ),
                    (
                        Query(
                            f"sum by (model, reason) (rate(bunriwiki_prediction_failures_total{{{HERE}}}[$__rate_interval]))",
                            "{{model}}: {{reason}}",
                        ),
                    ),
                    unit="reqps",
                    see=("models",),
                    width=6,
                    empty=Text("Empty until a request fails.", "실패한 요청이 생길 때까지 비어 있습니다."),
                ),
                Panel(
                    "Latency",
                    Text(
                        "Of answered requests, in the gateway: median and 99th percentile.",
                        "게이트웨이에서 잰 응답 시간의 중앙값과 99번째 백분위수입니다.",
                    ),
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, sum by (model, le) "
                            f"(rate(bunriwiki_prediction_duration_seconds_bucket{{{HERE}}}[$__rate_interval])))",
                            f"{{{{model}}}} {name}",
                        )
                        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    unit="s",
                    steps=((1, "red"),),
                    empty=_NO_REQUESTS,
                    runbooks=("BunriwikiLatencyBudgetBurnsFast",),
                    see=("models", "workers"),
                    width=6,
                ),
                Panel(
                    "Saturation: inputs that wait",
                    Text("In the queues of all gateway workers.", "모든 게이트웨이 워커의 대기열에 있는 입력 수입니다."),
                    (Query(f"sum by (model) (bunriwiki_queue_depth{{{HERE}}})", "{{model}}"),),
                    runbooks=("BunriwikiRequestsShed",),
                    see=("workers",),
                    width=6,
                ),
                Panel(
                    "Requests by status",
                    Text(
                        "All requests of both protocols per second, by status.",
                        "두 프로토콜의 모든 요청을 상태별로 초당 보여 줍니다.",
                    ),
                    (
                        Query(
                            'sum by (protocol, status) (rate(http_requests_total{instance=~"$instance"}[$__rate_interval]))',
                            "{{protocol}} {{status}}",
                        ),
                    ),
                    unit="reqps",
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Requests in flight",
                    Text("Requests that are being answered.", "응답 중인 요청 수입니다."),
                    (Query('sum by (protocol) (bunriwiki_requests_in_flight{instance=~"$instance"})', "{{protocol}}"),),
                    see=("workers",),
                    width=12,
                ),
            ),
        ),
    ),
)
