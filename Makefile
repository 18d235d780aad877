# Everything a newcomer needs: make demo, make test.  PYTHON=… picks the interpreter.
SHELL := /bin/bash
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
PYTEST_WORKERS ?= 2
# One thread a process: the tests run in several processes already.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

# The interpreter: $(PYTHON) where given, else the first of the usual names that is 3.11 or later.
define find_python
found=""; candidates="$${PYTHON:-python3 python python3.13 python3.12 python3.11}"; \
for candidate in $$candidates; do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    found="$$candidate"; break; \
  fi; \
done; \
if [ -z "$$found" ]; then \
  echo "diskern needs Python 3.11 or later with the venv module (python3-venv on Debian); none of these is one: $$candidates" >&2; \
  echo "install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef
export PYTHON

$(BIN)/python:
	@$(find_python); echo "creating $(VENV) with $$found"; "$$found" -m venv $(VENV)

# The stamps make a second run quick: dependencies are installed again only when they changed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.developed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed ## simulated patterns, identified: figures and a report in ./demo
	@$(BIN)/diskern demo $(DEMO)

test: $(VENV)/.developed ## all tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

lint: $(VENV)/.developed ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developed ## put the code in its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.developed ## time the parts that matter
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: $(VENV)/.developed ## the documentation as a site in ./site
	$(BIN)/mkdocs build --strict --quiet

clean: ## remove everything that was built
	rm -rf $(VENV) $(DEMO) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
