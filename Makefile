# `make fit` runs the whole study on the embedded models; `make test` checks the project. Each sets everything up.
.DEFAULT_GOAL := help
.PHONY: help setup fit test format lock train calibrate bench clean

BIN := .venv/bin
CODE := mfbayes/*.py mfbayes/calibration mfbayes/cli mfbayes/estimates mfbayes/imports mfbayes/laws mfbayes/marginal mfbayes/pooled mfbayes/switching mfbayes/vacillation data_gen inference reports
# Never ".": the links in mfbayes/ would make every tool see each file twice.
TARGETS := $(CODE) tests benchmarks
ARGS ?=

help:
	@echo "make fit      generate, collect, fit and report on every embedded model, into runs/ (ARGS='--groups 400')"
	@echo "make test     format, lint, types and tests, as continuous integration runs them"
	@echo "make format   let ruff put format and simple lint right"
	@echo "make lock     write requirements.lock anew from pyproject.toml"
	@echo "make train    train the embedded models again (more than an hour)"
	@echo "make calibrate  measure coverage and error rates again into docs/ (hours; resumes; ARGS='--processes 8')"
	@echo "make bench    time mfbayes against its peers into benchmarks/README.md (ARGS=--quick: minutes)"
	@echo "make clean    remove the virtual environment and caches"

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@set -e; \
	for candidate in $(PYTHON) python3.12 python3.13 python3.14 python3 python; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	  if [ -n "$(PYTHON)" ]; then echo "PYTHON=$(PYTHON) is not a Python 3.12 or newer." >&2; exit 2; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "No Python 3.12 or newer was found. Install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 2; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
	  echo "Making .venv with $$found"; "$$found" -m venv --clear .venv; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

fit: setup
	$(BIN)/python -m mfbayes fit --model all --out runs $(ARGS)

test: setup
	$(BIN)/ruff format --check $(TARGETS)
	$(BIN)/ruff check $(TARGETS)
	$(BIN)/mypy mfbayes tests
	$(BIN)/python -m pytest $(CODE) tests $(ARGS)

format: setup
	$(BIN)/ruff check --fix $(TARGETS)
	$(BIN)/ruff format $(TARGETS)

lock: .venv/.ready
	$(BIN)/uv pip compile --quiet pyproject.toml --extra all --extra dev --universal --python-version 3.12 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --upgrade -o requirements.lock

train: setup
	$(BIN)/python -m mfbayes.inference.embedded.train $(ARGS)

calibrate: setup
	$(BIN)/python -m mfbayes.calibration $(ARGS)
	$(BIN)/python -m mfbayes.laws.rates $(ARGS)
	$(BIN)/python -m mfbayes.switching.rates $(ARGS)

bench: setup
	$(BIN)/python -m venv .venv-bench
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --no-deps --editable .
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python -r benchmarks/requirements.txt
	.venv-bench/bin/python benchmarks/run.py $(ARGS)

clean:
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
