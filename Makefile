# Each target is the first command a newcomer may type: it makes .venv and installs the exact lock, once.
PYTHON ?= python3
BIN := .venv/bin
# A worker takes 1 to 3 GiB, and each imports PyTorch anew: for a few tests, `make test WORKERS= ARGS="tests/x.py -k y"`.
WORKERS ?= -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-browser fuzz soak lint audit lock clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweeps,app,export,notebooks,dashboard]'
	touch $@

demo: .venv/.installed  ## train the small models on built-in photos, compare them, write a report
	$(BIN)/python -m src.demo $(ARGS)

test: .venv/.installed  ## run the tests, in as many processes as there are cores
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-browser: .venv/.installed  ## run the tests of pages alone, in a Chromium that is installed already
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -m browser $(ARGS)

fuzz: .venv/.installed  ## run the tests with far more inputs, for minutes
	$(BIN)/python -m pytest -m fuzz $(ARGS)

soak: .venv/.installed  ## run the tests that kill runs again and again, for minutes
	$(BIN)/python -m pytest -m soak $(ARGS)

lint: .venv/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: .venv/.installed  ## ask PyPI which known vulnerabilities the pinned versions have
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

lock: .venv/.installed  ## solve the ranges of pyproject.toml anew into constraints.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
		--custom-compile-command "make lock" --upgrade -o constraints.txt

clean:  ## remove the environment; runs in outputs/ and multirun/ stay
	rm -rf .venv *.egg-info
