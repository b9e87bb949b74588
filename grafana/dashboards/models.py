"""Models: two versions side by side."""

from __future__ import annotations

from grafana.dashboards.declarations import Dashboard, Panel, Query, Row, Text
from grafana.dashboards.variables import INSTANCE, MODEL, SIDECAR, VERSION

HERE = 'instance=~"$instance", model=~"$model", version=~"$version"'
THERE = 'instance=~"$sidecar", model=~"$model", version=~"$version"'
NO_FEEDBACK = Text("Empty until somebody gives feedback.", "피드백이 들어올 때까지 비어 있습니다.")
NO_ANSWERS = Text("Empty until the version has answered.", "버전이 응답할 때까지 비어 있습니다.")
FEW_ANSWERS = Text(
    "Empty until 200 answers can be compared with a reference.", "기준과 비교할 응답이 200개 모일 때까지 비어 있습니다."
)

MODELS = Dashboard(
    name="models",
    title="Bunriwiki: Models",
    about=Text(
        "Versions of a model side by side. Promotions and rollbacks are marked in every graph.",
        "한 모델의 버전을 나란히 비교합니다. 승격과 롤백이 모든 그래프에 표시됩니다.",
    ),
    variables=(INSTANCE, SIDECAR, MODEL, VERSION),
    rows=(
        Row(
            "Requests",
            (
                Panel(
                    "Inputs answered",
                    Text("Inputs per second, by version.", "버전별 초당 입력 수입니다."),
                    (
                        Query(
                            f"sum by (model, version) (rate(bunriwiki_predictions_total{{{HERE}}}[$__rate_interval]))",
                            "{{model}} {{version}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Requests that failed",
                    Text("Per second, by version and reason.", "버전과 이유별 초당 실패한 요청입니다."),
                    (
                        Query(
                            "sum by (model, version, reason) "
                            f"(rate(bunriwiki_prediction_failures_total{{{HERE}}}[$__rate_interval]))",
                            "{{model}} {{version}}: {{reason}}",
                        ),
                    ),
                    unit="reqps",
                    runbooks=("BunriwikiErrorBudgetBurnsFast",),
                    empty=Text("Empty until a request fails.", "실패한 요청이 생길 때까지 비어 있습니다."),
                ),
                Panel(
                    "Latency",
                    Text("Median and 99th percentile, by version.", "버전별 중앙값과 99번째 백분위수입니다."),
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, sum by (model, version, le) "
                            f"(rate(bunriwiki_prediction_duration_seconds_bucket{{{HERE}}}[$__rate_interval])))",
                            f"{{{{model}}}} {{{{version}}}} {name}",
                        )
                        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    unit="s",
                    steps=((1, "red"),),
                    empty=NO_ANSWERS,
                    runbooks=("BunriwikiLatencyBudgetBurnsFast",),
                    see=("workers",),
                ),
            ),
        ),
        Row(
            "Rollout",
            (
                Panel(
                    "Serves",
                    Text("On: the workers answer with this version.", "켜짐: 워커가 이 버전으로 응답합니다."),
                    (Query(f"model_version_info{{{HERE}}}", "{{model}} {{version}}"),),
                    unit="bool_on_off",
                    maximum=1,
                    runbooks=("BunriwikiVersionSkew",),
                    see=("workers",),
                    width=12,
                ),
                Panel(
                    "Canary",
                    Text("Share of the batches that a canary or shadow gets.", "카나리나 섀도가 받는 배치의 비율입니다."),
                    (Query(f"bunriwiki_canary_share{{{THERE}}}", "{{model}} {{version}}"),),
                    unit="percentunit",
                    maximum=1,
                    see=("imports",),
                    width=12,
                    empty=Text("Empty while no canary runs.", "카나리가 실행 중이 아니면 비어 있습니다."),
                ),
            ),
        ),
        Row(
            "Answers",
            (
                Panel(
                    "Labels",
                    Text(
                        "Share of each label among the answers in the sliding window.",
                        "슬라이딩 윈도에 있는 응답 가운데 각 레이블의 비율입니다.",
                    ),
                    (Query(f"bunriwiki_predicted_label_share{{{THERE}}}", "{{model}} {{version}}: {{label}}"),),
                    unit="percentunit",
                    maximum=1,
                    empty=NO_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    see=("drift",),
                    width=12,
                ),
                Panel(
                    "Drift",
                    Text(
                        "Largest population stability index of any feature, divided by its threshold: above 1 it drifts.",
                        "모든 특성 중 가장 큰 집단 안정성 지수를 임계값으로 나눈 값입니다. 1을 넘으면 드리프트입니다.",
                    ),
                    (
                        Query(
                            f"max by (model, version) (bunriwiki_drift_psi{{{THERE}}} / bunriwiki_drift_psi_threshold)",
                            "{{model}} {{version}}",
                        ),
                    ),
                    steps=((1, "red"),),
                    empty=FEW_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    see=("drift",),
                    width=12,
                ),
                Panel(
                    "Accuracy by feedback",
                    Text(
                        "Share of right answers. `known` feedback came with a token; only that leads to alerts and rollbacks.",
                        "맞은 응답의 비율입니다. 토큰과 함께 들어온 `known` 피드백만 경보와 롤백으로 이어집니다.",
                    ),
                    (Query(f"bunriwiki_feedback_accuracy_ratio{{{THERE}}}", "{{model}} {{version}} (known: {{known}})"),),
                    unit="percentunit",
                    maximum=1,
                    start="blue",
                    empty=NO_FEEDBACK,
                    runbooks=("BunriwikiAccuracyDown",),
                    see=("drift",),
                ),
                Panel(
                    "Calibration error",
                    Text(
                        "Expected difference between a score and the share of right answers with that score.",
                        "점수와, 그 점수를 받은 응답 중 맞은 비율의 차이에 대한 기댓값입니다.",
                    ),
                    (
                        Query(
                            f"bunriwiki_feedback_calibration_error_ratio{{{THERE}}}",
                            "{{model}} {{version}} (known: {{known}})",
                        ),
                    ),
                    unit="percentunit",
                    start="blue",
                    empty=NO_FEEDBACK,
                    runbooks=("BunriwikiAccuracyDown",),
                ),
                Panel(
                    "Feedback",
                    Text("Feedback per second.", "초당 피드백 수입니다."),
                    (
                        Query(
                            f"sum by (model, version, known) (rate(bunriwiki_feedback_total{{{THERE}}}[$__rate_interval]))",
                            "{{model}} {{version}} (known: {{known}})",
                        ),
                    ),
                    unit="ops",
                    empty=NO_FEEDBACK,
                ),
            ),
        ),
    ),
)
