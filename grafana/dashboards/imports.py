"""Imports: phases, outcomes, quarantine and registries."""

from __future__ import annotations

from grafana.dashboards.declarations import Dashboard, Panel, Query, Row, Text
from grafana.dashboards.variables import MODEL, SIDECAR

HERE = 'instance=~"$sidecar", model=~"$model"'
NO_IMPORT = Text("Empty until the sidecar has imported a version.", "사이드카가 버전을 가져올 때까지 비어 있습니다.")

IMPORTS = Dashboard(
    name="imports",
    title="Bunriwiki: Imports",
    about=Text(
        "How new versions come in, and what keeps them out.", "새 버전이 어떻게 들어오고 무엇 때문에 막히는지 보여 줍니다."
    ),
    variables=(SIDECAR, MODEL),
    rows=(
        Row(
            "Imports",
            (
                Panel(
                    "Outcomes",
                    Text(
                        "Of the imports in the time shown. `undecided`: the machine was too busy to tell; it is tried again.",
                        "표시된 기간의 가져오기 결과입니다. `undecided`는 서버가 바빠 판정하지 못해 다시 시도합니다.",
                    ),
                    (
                        Query(
                            f"sum by (model, outcome) (increase(bunriwiki_imports_total{{{HERE}}}[$__range])) > 0",
                            "{{model}}: {{outcome}}",
                        ),
                    ),
                    kind="stat",
                    start="blue",
                    width=12,
                    empty=NO_IMPORT,
                    runbooks=("BunriwikiImportFailing", "BunriwikiVersionQuarantined"),
                ),
                Panel(
                    "Outcomes over time",
                    Text("Imports since the sidecar's start.", "사이드카가 시작된 뒤의 가져오기 횟수입니다."),
                    (Query(f"sum by (model, outcome) (bunriwiki_imports_total{{{HERE}}}) > 0", "{{model}}: {{outcome}}"),),
                    runbooks=("BunriwikiImportFailing",),
                    empty=NO_IMPORT,
                    width=12,
                ),
                Panel(
                    "Phases",
                    Text(
                        "Mean duration of each phase in the time shown.",
                        "표시된 기간에 각 단계가 걸린 평균 시간입니다.",
                    ),
                    (
                        Query(
                            f"increase(bunriwiki_import_phase_duration_seconds_sum{{{HERE}}}[$__range]) / "
                            f"(increase(bunriwiki_import_phase_duration_seconds_count{{{HERE}}}[$__range]) > 0)",
                            "{{model}}: {{phase}}",
                        ),
                    ),
                    unit="s",
                    kind="stat",
                    start="blue",
                    empty=NO_IMPORT,
                    runbooks=("BunriwikiImportFailing",),
                    width=12,
                ),
                Panel(
                    "Time in each phase",
                    Text(
                        "Seconds per second that imports spend in each phase.", "가져오기가 각 단계에서 쓰는 초당 시간입니다."
                    ),
                    (
                        Query(
                            "sum by (model, phase) "
                            f"(rate(bunriwiki_import_phase_duration_seconds_sum{{{HERE}}}[$__rate_interval])) > 0",
                            "{{model}}: {{phase}}",
                        ),
                    ),
                    unit="s",
                    stacked=True,
                    empty=NO_IMPORT,
                    width=12,
                ),
            ),
        ),
        Row(
            "What went live, and what did not",
            (
                Panel(
                    "Promotions",
                    Text(
                        "Activations by what triggered them, since the first day of the store.",
                        "모델 저장소가 생긴 뒤의 활성화를 트리거별로 보여 줍니다.",
                    ),
                    (Query(f"sum by (model, by) (bunriwiki_promotions_total{{{HERE}}}) > 0", "{{model}}: {{by}}"),),
                    see=("models",),
                    empty=NO_IMPORT,
                    width=6,
                ),
                Panel(
                    "Rollbacks",
                    Text(
                        "By reason, since the first day of the store. `operator`: by hand.",
                        "모델 저장소가 생긴 뒤의 롤백을 이유별로 보여 줍니다. `operator`는 사람이 한 것입니다.",
                    ),
                    (Query(f"sum by (model, reason) (bunriwiki_rollbacks_total{{{HERE}}}) > 0", "{{model}}: {{reason}}"),),
                    runbooks=("BunriwikiVersionQuarantined",),
                    see=("models",),
                    empty=Text("Empty until a version is rolled back.", "롤백이 있을 때까지 비어 있습니다."),
                    width=6,
                ),
                Panel(
                    "Quarantines",
                    Text(
                        "By the check that a version failed, since the first day of the store; `live_…`: on live traffic.",
                        "모델 저장소가 생긴 뒤의 격리를 실패한 검사별로 보여 줍니다. `live_…`는 실제 요청에서 실패한 것입니다.",
                    ),
                    (Query(f"sum by (model, reason) (bunriwiki_quarantines_total{{{HERE}}}) > 0", "{{model}}: {{reason}}"),),
                    runbooks=("BunriwikiVersionQuarantined",),
                    width=6,
                    empty=Text("Empty until a version is put into quarantine.", "격리된 버전이 생길 때까지 비어 있습니다."),
                ),
                Panel(
                    "In quarantine",
                    Text("Versions that must not go live now.", "지금 활성화되면 안 되는 버전 수입니다."),
                    (Query(f"bunriwiki_quarantined_versions{{{HERE}}}", "{{model}}"),),
                    kind="stat",
                    start="blue",
                    runbooks=("BunriwikiVersionQuarantined",),
                    width=6,
                ),
            ),
        ),
        Row(
            "Registries and store",
            (
                Panel(
                    "Registries",
                    Text("On: the last reading succeeded.", "켜짐: 마지막 읽기가 성공했습니다."),
                    (Query(f"bunriwiki_registry_up{{{HERE}}}", "{{model}}: {{registry}}"),),
                    unit="bool_on_off",
                    kind="stat",
                    start="red",
                    steps=((1, "green"),),
                    runbooks=("BunriwikiRegistryNotSeen",),
                    width=8,
                ),
                Panel(
                    "Since the registry was read",
                    Text("The alert comes after half an hour.", "30분이 지나면 경보가 발생합니다."),
                    (Query(f"time() - bunriwiki_registry_last_seen_timestamp_seconds{{{HERE}}}", "{{model}}: {{registry}}"),),
                    unit="s",
                    steps=((1800, "red"),),
                    runbooks=("BunriwikiRegistryNotSeen",),
                    width=8,
                ),
                Panel(
                    "Requested syncs",
                    Text("Requests for a sync that no sync has finished.", "아직 끝나지 않은 동기화 요청 수입니다."),
                    (Query(f"bunriwiki_sync_queue_depth{{{HERE}}}", "{{model}}"),),
                    width=8,
                ),
                Panel(
                    "Disk of the store",
                    Text("The alert comes below 4 GiB of free space.", "남은 공간이 4 GiB보다 작으면 경보가 발생합니다."),
                    (
                        Query('bunriwiki_store_free_bytes{instance=~"$sidecar"}', "free"),
                        Query('bunriwiki_store_size_bytes{instance=~"$sidecar"}', "store"),
                    ),
                    unit="bytes",
                    runbooks=("BunriwikiStoreDiskLow",),
                    width=12,
                ),
                Panel(
                    "Memory of the sidecar",
                    Text("Resident, without the sandboxes of imports.", "가져오기 샌드박스를 뺀 상주 메모리입니다."),
                    (
                        Query(
                            'process_resident_memory_bytes{instance=~"$sidecar"} and on (instance) bunriwiki_sync_build_info',
                            "{{instance}}",
                        ),
                    ),
                    unit="bytes",
                    width=6,
                ),
                Panel(
                    "Version of the sidecar",
                    Text("And of its Python.", "파이썬 버전도 함께 보여 줍니다."),
                    (Query('bunriwiki_sync_build_info{instance=~"$sidecar"}', "{{instance}}: {{version}}, Python {{python}}"),),
                    kind="name",
                    width=6,
                ),
            ),
        ),
        Row(
            "The rollout",
            (
                Panel(
                    "Replicas",
                    Text(
                        "Replicas that have the new image, and those that should run, of the last rollout; 0 before the first.",
                        "마지막 롤아웃에서 새 이미지로 실행 중인 복제본 수와 목표 복제본 수입니다. 첫 롤아웃 전에는 0입니다.",
                    ),
                    (Query('bunriwiki_rollout_replicas{instance=~"$sidecar"}', "{{of}}"),),
                    runbooks=("BunriwikiRolloutStuck",),
                    width=8,
                ),
                Panel(
                    "Phase",
                    Text(
                        "Of the rollout that is under way, or of the last one.", "진행 중이거나 마지막인 롤아웃의 단계입니다."
                    ),
                    (Query('bunriwiki_rollout_phase{instance=~"$sidecar"}', "{{phase}}"),),
                    unit="bool_on_off",
                    stacked=True,
                    runbooks=("BunriwikiRolloutStuck",),
                    width=8,
                ),
                Panel(
                    "Ended rollouts",
                    Text(
                        "`done`, or why it went back, since the first day of the store.",
                        "모델 저장소가 생긴 뒤 끝난 롤아웃입니다. `done`이 아니면 되돌린 이유입니다.",
                    ),
                    (Query('bunriwiki_rollouts_total{instance=~"$sidecar"}', "{{outcome}}"),),
                    runbooks=("BunriwikiRolloutFailed",),
                    width=8,
                ),
            ),
        ),
    ),
)
