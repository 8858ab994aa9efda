# make train [DATA=folder]   from nothing to a trained model and runs/quickstart/report.md
# make test                  lint, types and every test; under ten minutes on two cores
# make bench                 every benchmark, with its rivals in the same run
# make clean                 take away .venv and caches; results in runs/ stay
#
# PYTHON=python3.12          the interpreter .venv is made with
# TORCH_INDEX=address        where PyTorch comes from, e.g. https://download.pytorch.org/whl/cu130 (see .ci/venv)

PYTHON ?= python3
TORCH_INDEX ?= auto
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.made
PACKAGES := configs launch losses models pipelines shards slurm

# On two cores a thread per core in each of two test workers makes every test slower.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
# Images of containers often set it; then every process compiles PyTorch's sources anew, 7 s of processor time each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test lint types tests bench clean env
.DEFAULT_GOAL := train

train: $(STAMP)
	$(PY) -m launch.quickstart $(if $(DATA),--data $(DATA))

test: lint types tests

lint: $(STAMP)
	$(PY) -m ruff check .

types: $(STAMP)
	$(PY) -m mypy $(PACKAGES)

tests: $(STAMP)
	$(PY) -m pytest -n 2 --dist loadgroup --durations 15

bench: $(STAMP)
	@$(PY) -c 'import glob, sys; sys.exit(not glob.glob("benchmarks/[!_]*.py"))' || { echo "no benchmarks/*.py"; exit 2; }
	@set -e; for script in benchmarks/[!_]*.py; do echo "== $$script"; $(PY) $$script; done

env: $(STAMP)

# Rebuilt only when what it is made from changes; a build that broke off leaves no stamp and starts again.
$(STAMP): setup.cfg constraints.txt pyproject.toml .ci/venv
	PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) .ci/venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
