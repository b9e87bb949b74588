# A fresh machine needs Python 3.11, 3.12 or 3.13, and make; each target makes the environments that it needs, with the newest
# of these that is on the PATH. PYTHON names another one.

PYTHON ?=
HOST ?= http://127.0.0.1:3000
GRPC_HOST ?= 127.0.0.1:3001
DEV := .venv-dev/bin
export PYTHON BENTOML_DO_NOT_TRACK ?= true

.DEFAULT_GOAL := help
.PHONY: help serve sync image demo test test-unit test-containers prove check format bench bench-stall bench-labels bench-metrics bench-tracing bench-hostile bench-limits load train evaluate require-data require-model clean lock stubs dashboards serve-env serve-torch-env sync-env clients-env dev-env

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

serve: serve-env ## serve on PORT (3000), with the sidecar where a registry is configured
	@exec scripts/serve

sync: serve-env sync-env ## the sidecar alone: docs/sync.md
	@exec .venv-sync/bin/python -m model_sync run

image: serve-env dev-env ## the service's image from its Bento, with its bill of materials (requires Docker): docs/containers.md
	@scripts/image

demo: dev-env serve-env ## promotions, a rejection and a rollback under load, in a terminal screen
	@exec $(DEV)/python -m demo

test-unit: dev-env serve-env ## the fast tests, which start no server
	@$(DEV)/python -m pytest -q -n 3 -m "not integration and not slow" $(addprefix --ignore=tests/,integration training \
		model_sync/importing/compilers)

test: dev-env serve-env clients-env ## all tests, with coverage; every proof in its short form: docs/testing.md
	@$(DEV)/python -m tests.run

test-containers: dev-env serve-env ## the tests of images and docker-compose.yml (as root): docs/containers.md
	@$(DEV)/python -m pytest tests/integration/containers

prove: dev-env serve-env clients-env ## the proofs in their full form, with their measurements
	@BUNRIWIKI_PROOF=full $(DEV)/python -m pytest -m integration -rP

check: dev-env ## lint, types, import contracts
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .
	@$(DEV)/mypy .
	@$(DEV)/lint-imports

format: dev-env ## format the code
	@$(DEV)/ruff check --fix .
	@$(DEV)/ruff format .

bench: dev-env serve-env ## speed and memory
	@$(DEV)/python -m benchmarks.side_by_side

bench-stall: dev-env serve-env ## the slowest answer and the memory under a sustained load (half an hour)
	@$(DEV)/python -m benchmarks.stall

bench-labels: dev-env serve-env ## what requests for unknown paths leave in memory and metrics
	@$(DEV)/python -m benchmarks.labels

bench-metrics: dev-env serve-env ## what metrics, drift and feedback tickets cost per request
	@$(DEV)/python -m benchmarks.metrics

bench-hostile: dev-env serve-env ## a thousand hostile connections beside honest clients
	@$(DEV)/python -m benchmarks.hostile

bench-limits: dev-env serve-env ## what the limits for a hostile network cost per request
	@$(DEV)/python -m benchmarks.limits

bench-tracing: dev-env serve-env ## what request logs and traces cost per request
	@$(DEV)/python -m benchmarks.tracing

require-data:
	@[ -n "$(DATA)" ] || { echo "Set DATA to the folder with the data: training/README.md"; exit 2; }

require-model:
	@[ -n "$(MODEL)" ] || { echo "Set MODEL to yolo, kcbert or sentiment"; exit 2; }

load: dev-env ## Locust's page, http://127.0.0.1:8089, to load a running service: HOST, GRPC_HOST
	@exec $(DEV)/python -m locust --locustfile tests/load/locustfile.py --host "$(HOST)" --grpc-host "$(GRPC_HOST)" --web-host 127.0.0.1

train: require-model require-data sync-env ## train MODEL (yolo, kcbert, sentiment) on the folder DATA: training/README.md
	@.venv-sync/bin/python -m training.$(MODEL) --data "$(DATA)"

evaluate: require-data sync-env ## evaluate the bundled models on the folder DATA; CARDS=write writes the model cards, DRAW=PHOTOS draws
	@.venv-sync/bin/python -m training.evaluate --data "$(DATA)" $(if $(MODEL),--only $(MODEL)) $(if $(filter write,$(CARDS)),--write) \
		$(if $(DRAW),--draw "$(DRAW)")

clean: ## remove the environments and everything built
	@rm -rf .venv .venv-sync .venv-dev .venv-clients examples/node/node_modules build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

lock: dev-env ## lock the dependencies of pyproject.toml; UPGRADE=all or UPGRADE=NAME takes newer versions
	@UPGRADE="$(UPGRADE)" scripts/lock $(DEV)/uv

serve-env: ## .venv: the dependencies of serving
	@scripts/make-env .venv serve

serve-torch-env: serve-env ## torch added to .venv
	@scripts/make-env .venv serve serve-torch torch

sync-env: ## .venv-sync: sidecar and training
	@scripts/make-env .venv-sync sync torch

clients-env: ## .venv-clients: third-party clients, for the examples
	@scripts/make-env .venv-clients clients

dashboards: dev-env ## generate the Grafana dashboards (grafana/json): docs/monitoring.md
	@$(DEV)/python -m grafana.dashboards

stubs: dev-env ## generate the gRPC stubs (bunriwiki/protocols/grpc/*_pb2*)
	@$(DEV)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. bunriwiki/protocols/grpc/open_inference.proto

dev-env: ## .venv-dev: all dependencies, for tests
	@scripts/make-env .venv-dev dev torch
