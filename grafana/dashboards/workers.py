"""Workers: queues, batches, memory, restarts and generations."""

from __future__ import annotations

from grafana.dashboards.declarations import Dashboard, Panel, Query, Row, Text
from grafana.dashboards.variables import INSTANCE, MODEL

HERE = 'instance=~"$instance", model=~"$model"'
ALL = 'instance=~"$instance"'
NO_CALLS = Text("Empty while no requests arrive.", "요청이 없으면 비어 있습니다.")


def _mean(metric: str, by: str) -> str:
    """The mean of a histogram, by labels."""
    return (
        f"sum by ({by}) (rate({metric}_sum{{{HERE}}}[$__rate_interval])) / "
        f"sum by ({by}) (rate({metric}_count{{{HERE}}}[$__rate_interval]))"
    )


WORKERS = Dashboard(
    name="workers",
    title="Bunriwiki: Workers",
    about=Text("The processes of the service.", "서비스의 프로세스를 보여 줍니다."),
    variables=(INSTANCE, MODEL),
    rows=(
        Row(
            "Queues and batches",
            (
                Panel(
                    "Inputs that wait",
                    Text("In the queues of all gateway workers.", "모든 게이트웨이 워커의 대기열에 있는 입력 수입니다."),
                    (Query(f"sum by (instance, model) (bunriwiki_queue_depth{{{HERE}}})", "{{instance}} {{model}}"),),
                    runbooks=("BunriwikiRequestsShed",),
                ),
                Panel(
                    "Inputs per call",
                    Text("Mean size of a batch.", "배치의 평균 크기입니다."),
                    (Query(_mean("bunriwiki_batch_size", "model"), "{{model}}"),),
                    empty=NO_CALLS,
                ),
                Panel(
                    "Padding",
                    Text(
                        "Share of padding among the tokens; only of models that the service tokenizes for.",
                        "토큰 가운데 패딩의 비율입니다. 서비스가 토큰화하는 모델만 있습니다.",
                    ),
                    (
                        Query(
                            f"sum by (model) (rate(bunriwiki_batch_padding_tokens_total{{{HERE}}}[$__rate_interval])) / "
                            f"sum by (model) (rate(bunriwiki_batch_tokens_total{{{HERE}}}[$__rate_interval]))",
                            "{{model}}",
                        ),
                    ),
                    unit="percentunit",
                    maximum=1,
                    empty=NO_CALLS,
                ),
                Panel(
                    "Phases of a request",
                    Text(
                        "Mean time. `preprocess` and `forward` are per call to the runner, the others per request.",
                        "평균 시간입니다. `preprocess`와 `forward`는 러너 호출당, 나머지는 요청당 시간입니다.",
                    ),
                    (Query(_mean("bunriwiki_phase_duration_seconds", "model, phase"), "{{model}}: {{phase}}"),),
                    unit="s",
                    empty=NO_CALLS,
                    runbooks=("BunriwikiLatencyBudgetBurnsFast",),
                    width=12,
                ),
                Panel(
                    "Requests rejected",
                    Text("Per second, before they cost a forward pass.", "순전파 전에 거절된 초당 요청 수입니다."),
                    (
                        Query(
                            f"sum by (model, reason) (rate(bunriwiki_shed_requests_total{{{HERE}}}[$__rate_interval]))",
                            "{{model}}: {{reason}}",
                        ),
                    ),
                    unit="reqps",
                    steps=((0.1, "red"),),
                    runbooks=("BunriwikiRequestsShed",),
                    width=12,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "Workers missing",
                    Text("Workers that should be ready and are not.", "준비되어야 하지만 준비되지 않은 워커 수입니다."),
                    (Query(f"bunriwiki_workers_expected{{{ALL}}} - bunriwiki_workers{{{ALL}}}", "{{instance}} {{role}}"),),
                    steps=((1, "orange"),),
                    runbooks=("BunriwikiWorkersMissing",),
                ),
                Panel(
                    "Starts of workers",
                    Text(
                        "Within 15 minutes; a start of the service is one for each worker.",
                        "15분 동안의 시작 횟수입니다. 서비스를 시작하면 워커마다 한 번입니다.",
                    ),
                    (Query(f"increase(bunriwiki_worker_starts_total{{{ALL}}}[15m])", "{{instance}} {{role}}"),),
                    runbooks=("BunriwikiWorkersRestart",),
                ),
                Panel(
                    "Memory",
                    Text(
                        "Resident memory of each worker; the replacement of a dead one has its number.",
                        "각 워커의 상주 메모리입니다. 죽은 워커를 대신하는 워커는 같은 번호를 씁니다.",
                    ),
                    (Query(f"bunriwiki_worker_memory_bytes{{{ALL}}}", "{{instance}} {{role}} {{worker}}"),),
                    unit="bytes",
                    runbooks=("BunriwikiMemoryGrowth",),
                ),
            ),
        ),
        Row(
            "Versions",
            (
                Panel(
                    "Generation",
                    Text("Activations of each model, as the store counts them.", "모델 저장소가 센 모델별 활성화 횟수입니다."),
                    (Query(f"max by (model) (bunriwiki_generation{{{HERE}}})", "{{model}}"),),
                    see=("imports", "models"),
                    width=6,
                ),
                Panel(
                    "Generations behind",
                    Text(
                        "Of the worker that is furthest behind; above 0 for seconds during a promotion is normal.",
                        "가장 뒤처진 워커의 세대 차이입니다. 승격 중 몇 초 동안 0보다 큰 것은 정상입니다.",
                    ),
                    (Query(f"bunriwiki_worker_generation_lag{{{HERE}}}", "{{instance}} {{model}}"),),
                    steps=((1, "orange"),),
                    runbooks=("BunriwikiVersionSkew",),
                    width=6,
                ),
                Panel(
                    "Loads and hot swaps",
                    Text("Since the start of the service, per worker.", "서비스가 시작된 뒤 워커별 횟수의 합입니다."),
                    (
                        Query(f"sum by (model) (model_load_success_total{{{HERE}}})", "{{model}}: loads"),
                        Query(f"sum by (model) (model_hot_swap_total{{{HERE}}})", "{{model}}: hot swaps"),
                    ),
                    see=("models",),
                    width=6,
                ),
                Panel(
                    "Loads not completed",
                    Text(
                        "Loads that failed, or that still run.",
                        "실패했거나 아직 실행 중인 로드 수입니다.",
                    ),
                    (
                        Query(
                            f"sum by (model) (model_load_total{{{HERE}}}) "
                            f"- sum by (model) (model_load_success_total{{{HERE}}})",
                            "{{model}}",
                        ),
                    ),
                    steps=((1, "orange"),),
                    runbooks=("BunriwikiVersionSkew",),
                    width=6,
                ),
                Panel(
                    "Version of the service",
                    Text("And of BentoML and Python.", "BentoML과 파이썬 버전도 함께 보여 줍니다."),
                    (
                        Query(
                            f"bunriwiki_build_info{{{ALL}}}",
                            "{{instance}}: {{version}}, BentoML {{bentoml}}, Python {{python}}",
                        ),
                    ),
                    kind="name",
                    width=12,
                ),
                Panel(
                    "Duration of a scrape",
                    Text("As Prometheus measures it.", "Prometheus가 잰 시간입니다."),
                    (Query(f"scrape_duration_seconds{{{ALL}}} and on (instance) bunriwiki_build_info", "{{instance}}"),),
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
)
