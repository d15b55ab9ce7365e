# Everything starts here: `make demo` and `make test` do all set-up from a bare clone.
#
#   PYTHON=python3.12   the interpreter .venv is made with (3.11 or newer; default: the first one found)
#   WORKERS=2           processes that pytest spreads the tests over
#   ARGS=...            passed on to the demo, or to pytest

WORKERS ?= 2
ARGS ?=
PY := .venv/bin/python
STAMP := .venv/.installed
FLOOR := .venv-floor
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-floor wheel setup lint format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## train every panel small on real data on the CPU and write runs/demo/report.html
	@$(PY) -m benchmarks.demo $(ARGS)

test: lint ## lint, types, import contract, then all tests but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

test-all: lint ## the same with the slow tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-floor: $(FLOOR)/.installed ## the test suite on the oldest versions that pyproject.toml allows, in $(FLOOR)
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

wheel: $(STAMP) ## build a wheel and run every command's --help from it, installed somewhere else
	$(PY) -m pytest tests/house/test_wheel.py

lint: $(STAMP) ## ruff (rules and format), mypy, import contract
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

format: $(STAMP) ## rewrite the code to ruff's format, fixing what can be fixed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

setup: $(STAMP) ## make .venv and install everything (demo and test do this by themselves)

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path "./.venv/*" -prune -exec rm -rf {} +

# The stamp is written last, so an install that failed or was interrupted is done again. A .venv that works
# is kept and completed; one without a working pip, or of too old a Python, is made anew.
$(STAMP): pyproject.toml
	@usable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if ! { usable $(PY) && $(PY) -m pip --version >/dev/null 2>&1; }; then \
		for python in $(CANDIDATES); do usable "$$python" && break; python=; done; \
		test -n "$$python" || { \
			echo "error: Triptych needs Python 3.11 or newer; none of these is: $(CANDIDATES) (make PYTHON=/path/to/python3)" >&2; \
			exit 2; }; \
		echo "setting up .venv with $$("$$python" --version)"; \
		"$$python" -m venv --clear .venv || exit 1; \
	fi
	@echo "installing; the first time PyTorch is a large download, and this takes some minutes"
	@rm -f $@
	@$(PY) -m pip install --disable-pip-version-check --editable ".[dev]"
	@touch $@

$(FLOOR)/.installed: pyproject.toml benchmarks/measure/floors.py $(STAMP)
	$(PY) -m venv --clear $(FLOOR)
	$(PY) benchmarks/measure/floors.py > $(FLOOR)/constraints.txt
	$(FLOOR)/bin/python -m pip install --disable-pip-version-check --constraint $(FLOOR)/constraints.txt --editable ".[dev]"
	@touch $@
