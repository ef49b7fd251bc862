# Everything a newcomer, a maintainer and CI do goes through these targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Passed on to the command or the test runner: make run ARGS="--help", make test ARGS="-k threshold".
ARGS ?=
# One benchmark, or all of them: make bench NAME=predict.
NAME ?=
# make lock UPGRADE=1 takes the newest versions; without it, locked versions stay as they are.
UPGRADE ?=
# Test processes at a time. More than the cores make the servers that tests start miss their deadlines.
WORKERS ?= 2
# How many schedules of faults make soak runs, and the first one's seed: make soak RUNS=1000 SEED=5000.
RUNS ?= 200
SEED ?= 1000
# Which decoder fuzz looks at, and for how long.
TARGET ?= calls
SECONDS ?= 600
# How many requests fuzz-api sends at least.
CASES ?= 50000

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--override requirements/overrides.txt --annotation-style line --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: help
help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(READY) ## Create .venv with the locked dependencies and the project itself

$(READY): pyproject.toml requirements/bootstrap.txt requirements/dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tidemark needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): name another one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes --only-binary :all: -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m detection.kernel
	@touch $@

.PHONY: run
run: setup ## Start the whole stack, replay the recorded calls, serve on http://127.0.0.1:8000
	@exec $(BIN)/tidemark up --fresh --replay examples/calls.ndjson.gz --speed 3000000 $(ARGS)

# In their own order, the slow files are in the middle: the last ones are short, and nobody waits for one of them.
.PHONY: test
test: setup ## Run the tests that need nothing but what setup installed
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not kafka and not debian and not browser and not deploy and not docs and not soak and not faults and not azurite and not image and not fuzz" $(ARGS)

.PHONY: test-docs
test-docs: setup ## Type every command that the pages of docs/ print
	@$(BIN)/pytest -m docs $(ARGS)

.PHONY: test-page
test-page: setup ## Look at the page with a real browser; needs Debian's chromium
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/browser.txt
	@$(BIN)/pytest -m browser $(ARGS)

.PHONY: test-kafka
test-kafka: setup ## Run the tests that meet Apache Kafka itself; needs Java and Maven
	@$(BIN)/python -m tests.kafka.jars
	@$(BIN)/pytest -m kafka $(ARGS)

.PHONY: test-deploy
test-deploy: setup ## Check the image and the manifests with the tools of the field; needs Node.js
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/deploy.txt
	@npm ci --prefix tests/deploy --no-audit --no-fund --silent
	@$(BIN)/pytest -m deploy $(ARGS)

.PHONY: test-azurite
test-azurite: setup ## Take snapshots to Azurite, which answers as Azure Blob Storage does; needs Node.js
	@npm ci --prefix tests/snapshots --no-audit --no-fund --silent
	@$(BIN)/pytest -m azurite $(ARGS)

.PHONY: test-image
test-image: setup ## Build the image twice and run it; needs root, buildah and mmdebstrap
	@$(BIN)/pytest -s -m image $(ARGS)

.PHONY: audit
audit: setup ## Ask of every locked version whether a vulnerability is known; ARGS=--complete fails on gaps
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/supply.txt
	@$(BIN)/python supply/audit.py $(ARGS)

.PHONY: sbom
sbom: setup ## Write the bill of materials of the image's packages to build/tidemark.cdx.json (CycloneDX)
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/supply.txt
	@rm -rf build/sbom && $(BIN)/uv venv --quiet --python $(BIN)/python build/sbom
	@$(BIN)/uv pip sync --python build/sbom/bin/python --quiet --require-hashes requirements/runtime.txt
	@$(BIN)/cyclonedx-py environment --output-reproducible --validate --spec-version 1.6 --mc-type application \
		--pyproject pyproject.toml --output-file build/tidemark.cdx.json build/sbom/bin/python
	@rm -rf build/sbom

.PHONY: test-fuzz
test-fuzz: setup ## Send some thousand requests that nobody would, and compare the answers with the description
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/fuzz.txt
	@$(BIN)/pytest -m fuzz $(ARGS)

.PHONY: fuzz
fuzz: setup ## Mutate what the decoder TARGET= reads, for SECONDS= and guided by what it reaches
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/fuzz.txt
	@$(BIN)/python -m tests.fuzz.guided $(TARGET) --seconds $(SECONDS) --crashes build/fuzz/$(TARGET) $(ARGS)

.PHONY: fuzz-api
fuzz-api: setup ## As test-fuzz, CASES= of them, 50000 unless told otherwise
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements/fuzz.txt
	@$(BIN)/python -m tests.fuzz.api --cases $(CASES) $(ARGS)

.PHONY: check
check: setup ## Lint, formatting, strict types, import contracts, declared dependencies
	@$(BIN)/ruff check --output-format concise .
	@$(BIN)/ruff format --check --output-format concise .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

.PHONY: format
format: setup ## Mend formatting and what lint can mend alone
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: bench
bench: setup ## Run every benchmark, or the one in NAME=
	@$(BIN)/python -m benchmarks $(NAME)

.PHONY: test-faults
test-faults: setup ## Run some schedules of faults, and the mutations that they must catch
	@$(BIN)/pytest -m "faults and not soak and not kafka" $(ARGS)

.PHONY: soak
soak: setup ## Run the tests that take hours, RUNS= schedules of faults among them
	@FAULT_RUNS=$(RUNS) FAULT_SEED=$(SEED) $(BIN)/pytest -m soak --timeout 0 $(ARGS)

.PHONY: docs
docs: setup ## Write the generated pages and build the site into site/
	@$(BIN)/python docs/generate.py
	@$(BIN)/python monitoring/generate.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: lock
lock: setup ## Resolve the dependencies of pyproject.toml into requirements/, with hashes
	$(COMPILE) --extra local --extra dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) --extra local -c requirements/dev.txt -o requirements/local.txt pyproject.toml
	$(COMPILE) -c requirements/dev.txt -o requirements/runtime.txt pyproject.toml
	$(COMPILE) -c requirements/dev.txt -o requirements/bootstrap.txt requirements/bootstrap.in
	$(COMPILE) -c requirements/dev.txt -o requirements/references.txt requirements/references.in
	$(COMPILE) -c requirements/dev.txt -o requirements/browser.txt requirements/browser.in
	$(COMPILE) -c requirements/dev.txt -o requirements/deploy.txt requirements/deploy.in
	$(COMPILE) -c requirements/dev.txt -o requirements/fuzz.txt requirements/fuzz.in
	$(subst --override requirements/overrides.txt,,$(COMPILE)) -c requirements/dev.txt -o requirements/supply.txt requirements/supply.in

.PHONY: clean
clean: ## Remove everything that these targets made, .venv and the embedded stack's data included
	rm -rf $(VENV) .tidemark .cache site build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
