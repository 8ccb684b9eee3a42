# Two commands on a fresh machine: `make quickstart` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# torch is named with its exact version: a looser requirement may fetch a build with gigabytes of CUDA libraries.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0

.PHONY: quickstart test long lint torture golden bench clean

quickstart: $(VENV)/installed
	$(BIN)/residuum study run quickstart --workers auto
	$(BIN)/residuum study report quickstart

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The tests of a minute each, of what other tests show in less: killed studies, launchers by their contract, the script for cards.
long: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m long

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kills, damage, signals, rivals, full disks and hostile files, again and again, in one table: half an hour, so beside the suite.
torture: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/trust.py

# Writes tests/golden/golden.json anew; look at the difference before you commit it.
golden: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/golden/record_golden.py

bench: $(VENV)/installed
	$(BIN)/residuum bench

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
