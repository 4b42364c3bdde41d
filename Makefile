# Everything that is done with this repository. Each target installs what it is missing (ops/bootstrap).

VENV   := .venv/bin
# Compiled modules are kept, whatever the caller's environment says: the tests start some thousand processes.
export PYTHONDONTWRITEBYTECODE :=
# Three test processes keep two cores busy, because many tests wait for a timer or a server. Four are a sixth faster, and
# show which tests mind a busy machine. They share one Ceph.
WORKERS ?= 4
# The distributions that stand alone.
LIBRARIES ?= supervisors trio_grpc trio_http1 trio_redis trio_s3 trio_sandbox trio_simulation trio_telemetry guarded_fetch mediascrub mediathumbs
# More arguments for pytest:  make test PYTEST="-k upload -x"
PYTEST ?=
# make demo ONCE=1 ends after the uploads instead of running until Ctrl-C.
ONCE   ?=
# The folder whose files the demo uploads.
DEMO   ?= ops/demo

# Unit tests that decode real files: minutes of CPU, and ffmpeg.
DECODING := media

# The chaos tests: the same seed makes the same choices.
SEED     ?= 1
MINUTES  ?= 15
RESTARTS ?= 20

.DEFAULT_GOAL := help
.PHONY: help demo quick test image kubernetes crash chaos skew fuzz conformance check docs bench scale fmt clean mutants libraries wheels

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## the whole service on this machine, with sample uploads; ONCE=1 ends afterwards
	@ops/bootstrap demo
	@$(VENV)/avion-media dev --demo $(DEMO) $(if $(filter-out 0,$(ONCE)),--once)

test: ## all tests, on a real Redis, Ceph and ffmpeg; PYTEST="-k name" for some of them
	@ops/bootstrap test
	@$(VENV)/python -m tests.services run -- $(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 $(PYTEST)

quick: ## formatting, lint, unit tests that decode nothing, the libraries
	@ops/bootstrap env
	@$(VENV)/ruff format --check --quiet . || { echo "not formatted; try: make fmt"; exit 1; }
	@$(VENV)/ruff check --quiet .
	@$(VENV)/python -m pytest -n 2 --dist loadfile $(DECODING:%=--ignore=tests/unit/%) \
		tests/unit tests/ops/test_words.py supervisors/tests trio_grpc/tests trio_http1/tests trio_s3/tests trio_sandbox/tests trio_simulation/tests trio_telemetry/tests guarded_fetch/tests $(PYTEST)

image: ## the container image, without a daemon; then in a container: uploads, a drain, its contents and SBOM (build/image)
	@ops/bootstrap image
	@ops/build-image
	@$(VENV)/python -m tests.services run -- $(VENV)/python -m pytest tests/image/checks.py tests/image/compose_checks.py $(PYTEST)

kubernetes: ## both overlays with all components on a real API server; KUBE_APISERVER=/path/to/kube-apiserver ETCD=/path/to/etcd
	@test -x "$(KUBE_APISERVER)" -a -x "$(ETCD)" || { echo "KUBE_APISERVER and ETCD must be the paths of these programs"; exit 1; }
	@ops/bootstrap test
	@KUBE_APISERVER="$(KUBE_APISERVER)" ETCD="$(ETCD)" $(VENV)/python -m pytest tests/kubernetes/checks.py $(PYTEST)

crash: ## every crash point: each call of each kind of task, killed, failing, hanging, unanswered; killed uploads; CRASH="--kind image"
	@ops/bootstrap test
	@$(VENV)/python -m tests.crash $(CRASH)
	@$(VENV)/python -m tests.crash.uploads

chaos: ## random chaos with a report, then parts and replicas killed under load; SEED=7 MINUTES=15 RESTARTS=20
	@ops/bootstrap test
	@$(VENV)/python -m tests.chaos.random_run --seed $(SEED) --minutes $(MINUTES)
	@AVION_CHAOS_SEED=$(SEED) AVION_CHAOS_SECONDS=60 AVION_CHAOS_RESTARTS=$(RESTARTS) \
		$(VENV)/python -m tests.services run -- $(VENV)/python -m pytest tests/chaos -s \
		--ignore tests/chaos/test_random.py --timeout=$$(($(RESTARTS) * 30 + 400)) $(PYTEST)

skew: ## replicas of this version beside tomorrow's under load: an upgrade, and a rollback; MINUTES=10 SEED=7; BASE=v1.2.0 for two commits
	@ops/bootstrap test
	@$(VENV)/python -m tests.chaos.skew --seed $(SEED) --minutes $(if $(filter file,$(origin MINUTES)),10,$(MINUTES)) \
		$(if $(BASE),--base $(BASE))

fuzz: ## parsers and ports under mutated input, with a fresh seed; MINUTES=5 SEED=7 FUZZ="grpc-frames"
	@ops/bootstrap test
	@$(VENV)/python -m tests.fuzz --seconds $$(($(if $(filter file,$(origin MINUTES)),5,$(MINUTES)) * 60)) \
		$(if $(filter command environment,$(firstword $(origin SEED))),--seed $(SEED)) $(FUZZ)

conformance: ## files of other projects' tests (ExifTool, PngSuite, libpng, giflib, libvips, pillow_heif): no private tag, same pixels; SUITES=libpng
	@ops/bootstrap test
	@$(VENV)/python -m tests.conformance.media $(SUITES)

libraries: ## each library alone: its wheel and sdist, its tests and README on it, lowest and newest Python; LIBRARIES=trio_grpc
	@ops/bootstrap env
	@for each in $(LIBRARIES); do $(VENV)/mypy --strict $$each && ops/test-library $$each || exit 1; done

wheels: ## the wheels by pip alone, with the lowest and newest versions, on the oldest and newest Python; an upload with each
	@ops/bootstrap demo
	@ops/test-wheels --matrix

mutants: ## rules of the service broken, and small changes of supervisors/: each must make a test fail; MUTANTS="--only _policy"
	@ops/bootstrap env
	@$(VENV)/python -m tests.mutation.rules
	@$(VENV)/python -m tests.mutation $(MUTANTS)

check: ## formatting, lint, types, words, drift of generated files, links of the documentation
	@ops/bootstrap env
	@$(VENV)/ruff format --check --quiet . || { echo "not formatted; try: make fmt"; exit 1; }
	@$(VENV)/ruff check --quiet .
	@$(VENV)/mypy
	@$(VENV)/mypy $$(git grep -lI "^#!/usr/bin/env python3" ops)
	@$(VENV)/python -m pytest --quiet tests/ops/test_words.py
	@ops/generate-proto --check
	@$(VENV)/python ops/generate-docs --check
	@ops/generate-dashboards --check
	@$(VENV)/python ops/generate-rules --check
	@$(MAKE) --no-print-directory docs >/dev/null

docs: ## the documentation as a site, in build/site; fails on a link or heading that is not there
	@ops/bootstrap docs
	@NO_MKDOCS_2_WARNING=1 build/docs-env/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html"

bench: ## the measurements, as ratios to others doing the same on this machine
	@ops/bootstrap bench
	@$(VENV)/python -m tests.bench

scale: ## a million tasks queued, delayed and given up: memory, figures, what one task costs; unreadable objects beside healthy uploads
	@ops/bootstrap bench
	@$(VENV)/python -m tests.scale
	@$(VENV)/python -m tests.scale.dispatch
	@$(VENV)/python -m tests.scale.uploads
	@$(VENV)/python -m tests.scale.unreadable
	@$(VENV)/python -m tests.scale.deletions
	@$(VENV)/python -m tests.scale.copies
	@$(VENV)/python -m tests.scale.lost
	@$(VENV)/python -m tests.scale.replay
	@$(VENV)/python -m tests.scale.fleet
	@$(VENV)/python -m tests.scale.likeness
	@$(VENV)/python -m tests.scale.cluster
	@$(VENV)/python -m tests.scale.flows
	@$(VENV)/python -m tests.scale.model
	@$(VENV)/python -m tests.scale.memory
	@$(VENV)/python -m tests.scale.usage
	@$(VENV)/python -m tests.scale.webhooks
	@$(VENV)/python -m tests.scale.effective
	@AVION_DELETION_RUNS=10000 $(VENV)/python -m pytest -q --timeout=3600 tests/integration/items/deletion -k no_order
	@AVION_BLOCK_RUNS=10000 $(VENV)/python -m pytest -q --timeout=3600 tests/integration/items/moderation -k no_order

fmt: ## format the code, and fix what the linter can
	@ops/bootstrap env
	@$(VENV)/ruff check --quiet --fix . ; $(VENV)/ruff format --quiet .

clean: ## remove the environment, the caches and the Node packages
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
	find tests examples -name node_modules -prune -exec rm -rf {} +
