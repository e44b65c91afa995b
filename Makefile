# make demo: install, train a small GPT, read what it writes.  make test: install, pass the tests.
# Every install goes through constraints.txt: without it pip may take another torch, several gigabytes of it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test check faults bench docs lock clean

PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

demo: .venv/.samples ## train a small GPT on Shakespeare and print what it writes
	$(BIN)/trifecta demo

test: .venv/.test ## every test
	$(PYTEST)

check: .venv/.dev ## formatting, lint, types, import contracts, the fast tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m fast

faults: .venv/.test ## kill, fill, flip, truncate: sweeps over every kind of fault, ten minutes
	$(PYTEST) -m sweep --dist worksteal

bench: .venv/.dev ## trifecta against its peers, in pairs; three quarters of an hour
	$(BIN)/python -m benchmarks

docs: .venv/.samples ## write docs/recipe.md from the schema, docs/reliability.md from the tests
	$(BIN)/python docs/generate.py

lock: .venv/.dev ## write the installed versions to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' > constraints.new
	mv constraints.new constraints.txt

clean: ## remove the virtual environment and every cache
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# One stamp for each extra, so that a second call doesn't install again.
.venv/.samples .venv/.test .venv/.dev: .venv/.%: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

.venv/bin/pip:
	$(PYTHON) -m venv .venv
