"""The variables that dashboards share. A panel uses them as `$instance`, `$sidecar`, `$model` and `$version`."""

from __future__ import annotations

from grafana.dashboards.declarations import Text, Variable

INSTANCE = Variable(
    "instance", Text("The instances of the service.", "서비스 인스턴스입니다."), "bunriwiki_build_info", "instance"
)
SIDECAR = Variable(
    "sidecar", Text("The instances of the sidecar.", "사이드카 인스턴스입니다."), "bunriwiki_sync_build_info", "instance"
)
MODEL = Variable("model", Text("The models.", "모델입니다."), "bunriwiki_generation", "model")
VERSION = Variable(
    "version",
    Text("The versions that were in memory lately.", "최근에 메모리에 있던 버전입니다."),
    'bunriwiki_version_seen_timestamp_seconds{model=~"$model"}',
    "version",
)
