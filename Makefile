# `make help` lists the targets. Variables:
#   PYTHON=python3.12    the interpreter that .venv is created with
#   TORCH_INDEX=URL      where PyTorch comes from, e.g. https://download.pytorch.org/whl/cu130 (see .ci/venv)

PYTHON ?= python3
TORCH_INDEX ?= auto
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTEST := $(PY) -m pytest -n 2 --dist loadgroup --durations 15

# On two cores, a thread per core in each of two test workers slows every test down.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
# Container images often set this. Every process would then compile PyTorch's sources again, 7 s of CPU time each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test test-slow test-lowest lint format types tests campaign campaign-slurm bench docs env clean help
.DEFAULT_GOAL := train

train: $(STAMP) ## train from scratch [DATA=folder], write runs/quickstart/report.md (the default target)
	$(PY) -m launch.quickstart $(if $(DATA),--data $(DATA))

test: lint types tests ## lint, type-check and run every fast test: up to half an hour on two cores

test-slow: $(STAMP) ## run the tests marked slow
	$(PYTEST) -m slow || [ $$? = 5 ] # pytest exits with 5 when no test has the mark

test-lowest: ## run the tests of training, resuming, evaluation and shards with the lowest versions setup.cfg allows
	PYTHON=$(PYTHON) .ci/lowest $(VENV)-lowest

lint: $(STAMP) ## check style and formatting with ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP) ## apply ruff's fixes and formatting
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(STAMP) ## type-check with mypy
	$(PY) -m mypy quell benchmarks tests docs/support

tests: $(STAMP) ## run the fast tests only
	$(PYTEST) -m "not slow"

campaign: $(STAMP) ## kill runs and damage files at random: SEED=1 KILLS=30 MUTATIONS=500 GAN_KILLS=0 ROUNDS=1
	$(PY) -m tests.campaign --seed $(or $(SEED),1) --kills $(or $(KILLS),30) --mutations $(or $(MUTATIONS),500) \
		--gan-kills $(or $(GAN_KILLS),0) --rounds $(or $(ROUNDS),1)

campaign-slurm: $(STAMP) ## requeue, preempt and lose nodes and controllers of a real SLURM at random
	$(PY) -m tests.campaign.slurm

bench: $(STAMP) ## run every benchmark of speed, each next to its alternatives
	@$(PY) -c 'import glob, sys; sys.exit(not glob.glob("benchmarks/[!_]*.py"))' || { echo "no benchmarks/*.py"; exit 2; }
	@set -e; for script in benchmarks/[!_]*.py; do echo "== $$script"; $(PY) $$script; done

docs: $(STAMP) ## run the tutorials whose text has changed, then build the documentation into site/
	$(PY) docs/support/tutorials.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

env: $(STAMP) ## create .venv with the pinned dependencies

# Recreated only when one of its inputs changes. An interrupted build leaves no stamp, so the next one starts over.
$(STAMP): setup.cfg constraints.txt pyproject.toml .ci/venv
	PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) .ci/venv $(VENV)
	@touch $@

clean: ## remove .venv and all caches; results in runs/ stay
	rm -rf $(VENV) $(VENV)-lowest build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
