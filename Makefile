# Two commands do all the set-up: `make demo` and `make test`. Everything lives in .venv; remove it to start afresh.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-oldest lint format bench mutants storm clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       install, then the main job: every method on real digits (under 2 minutes after installation)"
	@echo "make test       install, then the fast tests"
	@echo "make test-slow  install, then every test (kill-and-resume, long runs)"
	@echo "make test-oldest  the fast tests with the lowest versions that the requirements admit"
	@echo "make mutants    do the tests notice small faults in weighting/? (long; python -m tests.mutants --again goes on)"
	@echo "make lint       formatting, lint and types"
	@echo "make bench      step-time ratios on this machine, into runs/benchmarks; KEEP=--keep writes results/benchmarks.json, too"
	@echo "make storm      kills, full disks, damaged files (many minutes); see docs/reliability.md"
	@echo "With a GPU: make demo EXTRA=requirements-gpu.txt.  Another interpreter: make demo PYTHON=python3.13"

.venv/installed: requirements.txt $(EXTRA)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	sys.exit(0 if v >= (3, 11) else f"Python 3.11 or later is needed, but $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt $(addprefix -r ,$(EXTRA))
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: .venv/installed
	$(BIN)/python -m experiments run demo --out runs/demo --resume

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m "slow or not slow"

# The lowest versions that the requirements admit, of what they name; needs an interpreter that has wheels of them.
.venv-oldest/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -r requirements.txt -r requirements-dev.txt
	@touch $@

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile

mutants: .venv/installed-dev
	$(BIN)/python -m tests.mutants --count 240 --jobs 2 --keep

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.step_time $(KEEP)

storm: .venv/installed-dev
	$(BIN)/python -m tests.storm

clean:
	rm -rf .venv .venv-oldest .pytest_cache .ruff_cache
