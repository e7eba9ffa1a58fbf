# Every target sets itself up in .venv; a machine needs python3 (3.11 or newer) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RAY_VENV := .venv-ray
RAY_READY := $(RAY_VENV)/.ready
TRACKERS_VENV := .venv-trackers
TRACKERS_READY := $(TRACKERS_VENV)/.ready
# Tests and demo need no GPU. On a machine whose default index serves CUDA builds of torch, save
# the gigabytes: make TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu" test
TORCH := torch==2.13.0
TORCH_PIP_ARGS ?=
# Half as many workers again as cores; PYTEST_ARGS="-n 0 -x" says otherwise.
PYTEST_ARGS ?= -n auto --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test check lint types floors chaos trackers bench figures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## set up .venv (the other targets do this by themselves)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and \
	  f"Milepost needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $(TORCH_PIP_ARGS) $(TORCH)
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(READY) ## tune a PyTorch network on real data, kill a worker, watch it go on
	$(BIN)/python examples/demo.py

test: $(READY) ## the tests, with seeded subsets of the crash tests
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not chaos"

check: lint types floors test ## what CI runs: lint, types, import layers, tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

floors: $(READY)
	$(BIN)/lint-imports

chaos: $(READY) ## full counts of the crash and kill tests
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m chaos

trackers: $(TRACKERS_READY) ## the tests of MLflow, W&B, Comet and Aim, with the libraries themselves
	$(TRACKERS_VENV)/bin/python -m pytest -n 0 tests/integrations

$(TRACKERS_READY): pyproject.toml
	@test -x $(TRACKERS_VENV)/bin/python || $(PYTHON) -m venv $(TRACKERS_VENV)
	$(TRACKERS_VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(TRACKERS_VENV)/bin/python -m pip install --quiet --editable . --group trackers
	@touch $@

bench: $(READY) $(RAY_READY) ## the same scripts under Milepost and Ray, with ratios
	$(BIN)/python benchmarks/run.py --ray-python $(RAY_VENV)/bin/python

figures: $(READY) ## the figures of the documentation, drawn anew
	$(BIN)/python -m pip install --quiet --group figures
	$(BIN)/python benchmarks/regret.py docs/figures/regret.svg

$(RAY_READY):
	@test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet 'ray[tune]==2.60.0'
	@touch $@

clean: ## remove what was set up and cached
	rm -rf $(VENV) $(RAY_VENV) $(TRACKERS_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
