# Two commands do all set-up: `make run` and `make test`. They need Python 3.11+ and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help run test check soak bench lock openapi wheel clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(VENV)/run.done ## start Tollkeeper with a small example API on http://localhost:3000
	@$(BIN)/tollkeeper demo

test: check ## install everything, lint, type-check, run the whole suite
	$(BIN)/python -m pytest -n 2

check: $(VENV)/dev.done ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/dev.done ## the long proofs in full: hundreds of kills, big growth, rehearsed years of invoices
	TOLLKEEPER_SOAK=1 $(BIN)/python -m pytest tests/proofs tests/accounts

bench: $(VENV)/bench.done ## compare side by side, print ratios, keep JSON in benchmarks/results
	$(BIN)/python -m benchmarks

openapi: $(VENV)/run.done ## write docs/openapi.json from the code
	$(BIN)/tollkeeper openapi > docs/openapi.json

wheel: $(VENV)/run.done ## build dist/*.whl
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

lock: ## resolve the locks again (needs uv on PATH)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  pyproject.toml --extra otel --group build -o requirements/run.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  pyproject.toml --extra otel --group build --group dev -c requirements/run.txt -o requirements/dev.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  pyproject.toml --extra otel --group build --group dev --group bench -c requirements/dev.txt -o requirements/bench.txt

clean: ## remove what the other commands made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tollkeeper needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: requirements/%.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/$*.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@
