# make quickstart  train and score a small CATs on the embedded data set, write a report
# make test        lint, types, doctests and tests
# make oldest      the tests on the oldest versions that pyproject.toml admits, in .venv-oldest (OLDEST_PYTHON=python3.10)
# make processors  the tests as other processors and other numbers of threads compute, in turn (hours)
# make fuzz        100,000 spoilt inputs into every reader of foreign bytes (a quarter of an hour)
# make campaigns   kills, signals, disks and a soak: an hour of one core, minutes of many (JOBS=14); needs root for disks
# make setup       only make .venv and install into it
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA := $(wildcard ../shared/data)
JOBS ?= 2
OLDEST_PYTHON ?= python3.10
OLDEST := .venv-oldest
TESTS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
	$(if $(DATA),SC_DATA_ROOT=$${SC_DATA_ROOT:-$(abspath $(DATA))})

.PHONY: setup quickstart test oldest processors fuzz campaigns lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[offline,dev]'
	touch $@

quickstart: $(STAMP)
	$(BIN)/scbench quickstart

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(TESTS) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rs

oldest: $(OLDEST)/.installed
	$(TESTS) $(OLDEST)/bin/python -m pytest -n $(JOBS) --dist loadfile

$(OLDEST)/.installed: pyproject.toml tests/oldest.txt
	test -x $(OLDEST)/bin/python || $(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check --progress-bar on \
		--constraint tests/oldest.txt -e '.[offline,saliency,dev]'
	touch $@

processors: $(STAMP)
	failed=0; \
	for setting in \
		"ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2" \
		"ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2" \
		"OMP_NUM_THREADS=2" \
		"OMP_NUM_THREADS=4 ATEN_CPU_CAPABILITY=avx2"; do \
		echo "$$setting"; \
		$(TESTS) env $$setting $(BIN)/python -m pytest -n $(JOBS) --dist loadfile || failed=1; \
	done; exit $$failed

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --inputs 100000 --workers 2 --saved runs/fuzz

campaigns: $(STAMP)
	$(BIN)/python -m tests.campaigns.crashes --kills 100 --workers $(JOBS)
	$(BIN)/python -m tests.campaigns.crashes --kills 20 --workers $(JOBS) --signal TERM
	$(BIN)/python -m tests.campaigns.crashes --kills 20 --workers $(JOBS) --signal INT
	$(BIN)/python -m tests.campaigns.processes
	$(BIN)/python -m tests.campaigns.disks
	$(BIN)/python -m tests.campaigns.soak

clean:
	rm -rf runs report .mypy_cache .pytest_cache .ruff_cache
