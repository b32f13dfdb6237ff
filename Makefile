# `make run` trains the quickstart, `make test` runs the tests; both install what is missing first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRA ?= cpu
BIN := .venv/bin

.PHONY: help install run test check docs format lock clean

help:
	@echo 'make run      install what is missing, then train the quickstart into runs/quickstart/'
	@echo 'make test     install what is missing, then run the tests'
	@echo 'make check    lint, formatting and types'
	@echo 'make docs     build the documentation into site/; a broken link is an error'
	@echo 'make format   reformat the sources and apply automatic lint fixes'
	@echo 'make install  install what is missing into .venv (EXTRA=gpu for a CUDA machine)'
	@echo 'make lock     write the versions in .venv to deploy/locks/$$EXTRA.txt'
	@echo 'make clean    delete caches and build outputs; keeps .venv and runs/'

install:
	@test -n '$(PYTHON)' || { echo 'error: no Python found; install Python 3.11 (Debian: apt-get install python3.11)' >&2; exit 2; }
	@'$(PYTHON)' deploy/install.py --extra '$(EXTRA)'

run: install
	@$(BIN)/scope train deploy/configs/countdown-cpu.yaml --run-id quickstart --replace

# Two workers: most of the tests' time is spent waiting for processes to start.
test: install
	@$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations 30

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

docs: install
	@$(BIN)/zensical build --strict --clean

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: install
	@$(BIN)/python deploy/lock.py --extra '$(EXTRA)'

clean:
	@rm -rf build dist site .cache ./*.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
