# `make help` lists the targets. Everything Python goes into .venv; nothing global but Debian packages.

# An interpreter (python3.12, a path) or its version (3.12); the series of Django; the drivers: default (mysqlclient and
# psycopg 3), psycopg2 or pymysql. pyproject.toml pins them.
PYTHON ?= python3
DJANGO ?= 5.2
DRIVER ?= default
override PYTHON := $(patsubst 3.%,python3.%,$(PYTHON))
# Each combination has a virtual environment of its own, and each version of Python a target folder of its own: nothing
# is built anew for the default one when it is used again.
ifeq ($(PYTHON) $(DJANGO) $(DRIVER),python3 5.2 default)
VENV := .venv
else
VERSION := $(shell $(PYTHON) -S -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error PYTHON=$(PYTHON) cannot be run)
endif
VENV := .venv-$(VERSION)-$(DJANGO)$(if $(filter-out default,$(DRIVER)),-$(DRIVER))
export CARGO_TARGET_DIR := $(CURDIR)/target/python-$(VERSION)
endif
BIN := $(CURDIR)/$(VENV)/bin
DB ?= sqlite
# pytest's own arguments: make test ARGS="-k scopes -x"
ARGS ?=
SECONDS ?=
SEED ?=

export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo '  Each of them takes PYTHON=3.12 (or an interpreter), DJANGO=5.2, 6.0 or 6.1, and DRIVER=psycopg2 or pymysql:'
	@echo '  make test PYTHON=3.13 DJANGO=6.1 DRIVER=pymysql runs in an environment of its own, .venv-3.13-6.1-pymysql'

.PHONY: demo
demo: $(VENV)/demo.done ## Run the example project (DB=sqlite, mysql, mariadb or postgresql)
	@test $(DB) = sqlite || $(MAKE) --no-print-directory $(VENV)/test.done
	$(BIN)/python example_project/demo.py --db $(DB)

.PHONY: test-fast
test-fast: $(VENV)/test.done test-core ## Test the core, and what needs no database server: a minute
	$(BIN)/python -X dev -W error -m pytest -m "not servers and not slow" --numprocesses 2 --dist loadfile $(ARGS)

.PHONY: test
test: $(VENV)/test.done test-core ## Install the database servers and run every test
	$(BIN)/python -m tests.servers install
	$(BIN)/python -X dev -W error -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python tests/packaging.py

.PHONY: test-foreign
test-foreign: $(VENV)/test.done ## Run other people's test suites without us and with us (ARGS="wagtail-sqlite --only with")
	$(BIN)/python -m tests.servers install mysql
	$(BIN)/python -m tests.foreign $(ARGS)

.PHONY: soak
soak: $(VENV)/test.done ## Look for stale reads of one's own under faults (SECONDS=60 for each engine, SEED=..., DB=...)
	$(BIN)/python -m tests.servers install
	$(BIN)/python -m tests.consistency soak --db $(DB) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: storm
storm: $(VENV)/test.done ## Kill and stop replicas under the example project's load, naive and with replicant (SECONDS=30, SEED=..., DB=...)
	$(BIN)/python -m tests.servers install
	$(BIN)/python -m tests.storm --db $(DB) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: story
story: $(VENV)/test.done ## Five stories, each with naive routers and with replicant (DB=..., DELAY=0,50ms,500ms,5s, ARGS=-v)
	$(BIN)/python example_project/story.py --db $(DB) $(if $(DELAY),--delay $(DELAY)) $(ARGS)

.PHONY: bench
bench: $(VENV)/bench.done ## What a decision costs, beside every peer, into target/bench (ARGS=--quick)
	$(BIN)/python -m tests.servers install mysql mariadb
	$(BIN)/python -m tests.benchmarks $(ARGS)
	$(BIN)/python -m tests.consistency share

.PHONY: test-core
test-core: ## Test the Rust core alone, without Python
	tests/bootstrap.sh demo
	CARGO_TARGET_DIR=$(CURDIR)/target cargo test --quiet --locked --no-default-features

.PHONY: model
model: ## Try every order in which threads may come where they meet in the core
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/model cargo test --quiet --locked --no-default-features --lib --release model

.PHONY: lint
lint: $(VENV)/lint.done ## Check formatting, types and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest replicant._core --allowlist tests/stubtest.txt
	$(BIN)/python -m tests.language

.PHONY: format
format: $(VENV)/lint.done ## Format the code
	cargo fmt
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: dist
dist: $(VENV)/demo.done ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/maturin build --release --locked --out dist
	$(BIN)/maturin sdist --out dist

.PHONY: clean
clean: ## Remove everything that was built or installed
	rm -rf .venv .venv-* target dist

# A group of pinned tools, and the package itself, built anew when its sources change.
DRIVERS := drivers$(if $(filter-out default,$(DRIVER)),-$(DRIVER))
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')

$(VENV)/%.done: $(SOURCES) tests/bootstrap.sh
	PYTHON="$(PYTHON)" tests/bootstrap.sh $(if $(filter demo,$*),demo,test)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group django-$(DJANGO) --group $* $(if $(filter demo,$*),,--group $(DRIVERS))
	$(if $(filter pymysql,$(DRIVER)),$(BIN)/python tests/pymysql_alone.py)
	$(BIN)/maturin develop --release --locked --quiet
	@touch $@
