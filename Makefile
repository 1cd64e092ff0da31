# Every target makes its own .venv first. `make serve ARGS='--port 9000'` passes options on.
.DEFAULT_GOAL := help
.PHONY: help serve demo test lint format bench screenshot clean

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Newer than pyproject.toml exactly when the environment holds what pyproject.toml asks for.
STAMP  := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench

help:
	@echo 'make serve   run the server                (ARGS="--port 9000")'
	@echo 'make demo    run it with live machine data'
	@echo 'make test    run every test                (ARGS="-k filter")'
	@echo 'make lint    ruff, mypy --strict, flake8-async'
	@echo 'make format  rewrite the code as make lint wants it'
	@echo 'make bench   run the benchmarks            (ARGS="fanout --quick")'
	@echo 'make screenshot  take docs/console.png anew'
	@echo 'make clean   remove .venv and caches'

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Triode needs Python 3.11 or later: make PYTHON=python3.11 ...' >&2; exit 1; }
	@# bin/pip, not bin/python: without ensurepip a broken .venv with a python in it is left behind.
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
	  || { echo 'Cannot make $(VENV). On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Installing into $(VENV) ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,examples]'
	@touch $@

serve: $(STAMP)
	$(BIN)/triode serve $(ARGS)

demo: $(STAMP)
	$(BIN)/triode serve --demo $(ARGS)

# Two processes, as half of the time a test waits for a server to start; ARGS="-n 0" for one.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# ruff's ASYNC rules lack the checkpoint and shield analysis of the original; see .flake8.
	$(BIN)/flake8 app store limits
	$(BIN)/flake8 --enable ASYNC1,ASYNC2,ASYNC3,ASYNC910 --disable ASYNC109,ASYNC124,ASYNC127 clients/python
	$(BIN)/flake8 --disable ASYNC109,ASYNC124,ASYNC127 tests

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The charts' library, and the other servers, into a cache of their own.
$(BENCH_STAMP): $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m bench install
	@touch $@

bench: $(BENCH_STAMP)
	$(BIN)/python -m bench $(ARGS)

# Needs Chromium; Playwright comes with .[dev].
screenshot: $(STAMP)
	$(BIN)/python -m tests.browser.screenshot docs/console.png $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
