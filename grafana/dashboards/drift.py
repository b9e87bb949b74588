"""Drift: the live traffic beside the reference."""

from __future__ import annotations

from grafana.dashboards.declarations import Dashboard, Panel, Query, Row, Text
from grafana.dashboards.variables import MODEL, SIDECAR, VERSION

HERE = 'instance=~"$sidecar", model=~"$model", version=~"$version"'
NO_ANSWERS = Text("Empty until the version has answered.", "버전이 응답할 때까지 비어 있습니다.")
FEW_ANSWERS = Text(
    "Empty until 200 answers can be compared with a reference.", "기준과 비교할 응답이 200개 모일 때까지 비어 있습니다."
)
INPUTS = "text_length|unknown_tokens|image_pixels|brightness"


def _drift(features: str) -> tuple[Query, ...]:
    expr = f'bunriwiki_drift_psi{{{HERE}, feature=~"{features}"}} / bunriwiki_drift_psi_threshold'
    return (Query(expr, "{{model}} {{version}}: {{feature}}"),)


DRIFT = Dashboard(
    name="drift",
    title="Bunriwiki: Drift",
    about=Text(
        "Inputs and answers in the sliding window, beside those of the reference.",
        "슬라이딩 윈도의 입력과 응답을 기준과 비교합니다.",
    ),
    variables=(SIDECAR, MODEL, VERSION),
    rows=(
        Row(
            "Answers",
            (
                Panel(
                    "Drift of the answers",
                    Text(
                        "Population stability index of labels and scores, divided by its threshold: above 1 they drift.",
                        "레이블과 점수의 집단 안정성 지수를 임계값으로 나눈 값입니다. 1을 넘으면 드리프트입니다.",
                    ),
                    _drift("label|score"),
                    steps=((1, "red"),),
                    empty=FEW_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    see=("models",),
                    width=12,
                ),
                Panel(
                    "Labels",
                    Text("Share of each label in the window.", "윈도에 있는 각 레이블의 비율입니다."),
                    (Query(f"bunriwiki_predicted_label_share{{{HERE}}}", "{{model}} {{version}}: {{label}}"),),
                    unit="percentunit",
                    maximum=1,
                    empty=NO_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    see=("models",),
                    width=12,
                ),
            ),
        ),
        Row(
            "Inputs",
            (
                Panel(
                    "Drift of the inputs",
                    Text(
                        "Population stability index of what inputs look like, divided by its threshold.",
                        "입력 특성의 집단 안정성 지수를 임계값으로 나눈 값입니다.",
                    ),
                    _drift(INPUTS),
                    steps=((1, "red"),),
                    empty=FEW_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    width=12,
                ),
                Panel(
                    "Answers in the window",
                    Text("Below 200 there are no figures about drift.", "200보다 작으면 드리프트 값이 없습니다."),
                    (Query(f"bunriwiki_drift_window_inputs{{{HERE}}}", "{{model}} {{version}}"),),
                    steps=((200, "green"),),
                    start="orange",
                    empty=NO_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    width=12,
                ),
            ),
        ),
        Row(
            "Distance",
            (
                Panel(
                    "Distance of the distributions",
                    Text(
                        "Jensen-Shannon distance to the reference, 0 to 1, by feature.",
                        "기준과의 옌센-섀넌 거리(0~1)를 특성별로 보여 줍니다.",
                    ),
                    (Query(f"bunriwiki_drift_js_distance{{{HERE}}}", "{{model}} {{version}}: {{feature}}"),),
                    maximum=1,
                    empty=FEW_ANSWERS,
                    runbooks=("BunriwikiDrift",),
                    see=("models",),
                    width=24,
                ),
            ),
        ),
    ),
)
