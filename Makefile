# Every target does its own set-up in .venv: all it needs is make and a Python >= 3.11.

VENV := .venv
BIN := $(VENV)/bin
# The set-up runs again when the declared or the pinned versions change.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.base-$(KEY)
DEV := $(VENV)/.dev-$(KEY)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c "$(NEW_ENOUGH)" 2>/dev/null && echo $$p && break; done)
endif

.PHONY: help demo test test-long test-slurm bench check format build clean

help:
	@echo "make demo        simulate a small survey, find its anomalies, write demo/report.html"
	@echo "make test        the tests (minutes)"
	@echo "make test-long   the tests that take longer"
	@echo "make test-slurm  the tests on a real Slurm, brought up for them (root on Debian; minutes)"
	@echo "make bench       every benchmark, with a summary (an hour; BENCH=--quick: minutes)"
	@echo "make check       ruff, mypy and the rules of the house"
	@echo "make format      let ruff put the sources in order"
	@echo "make build       the wheel and the source archive, in dist/"
	@echo "make clean       remove .venv and everything that was built"

demo: $(BASE)
	$(BIN)/fmbdask demo --out demo --overwrite

test: $(DEV)
	$(BIN)/python -m pytest -m "not long and not slurm"

test-long: $(DEV)
	$(BIN)/python -m pytest -m "long and not slurm"

test-slurm: $(DEV)
	$(BIN)/python -m pytest -m slurm --durations 5 tests/slurm

bench: $(DEV)
	$(BIN)/python benchmarks/all.py -o bench $(BENCH)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(DEV)
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found: install one, or name it with make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c "$(NEW_ENOUGH)" || { echo "$(PYTHON) is older than Python 3.11: name a newer one with make PYTHON=/path/to/python3."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The build backend comes from constraints.txt too, hence --no-build-isolation.
$(BASE): | $(BIN)/python
	@echo "Installing fmbdask into $(VENV) (once) ..."
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable .
	@touch $@

# torch comes first and by itself: what depends on it would bring another build of it, of gigabytes.
$(DEV): $(BASE)
	@echo "Installing the tools for tests and checks into $(VENV) (once) ..."
	$(PIP) torch==2.13.0
	$(PIP) --no-build-isolation --editable ".[dev,models]"
	@touch $@
