# Each target is the first command a newcomer may type: it makes .venv and installs the exact lock, once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test browser-test lint lock clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweeps,app]'
	touch $@

demo: .venv/.installed  ## train the small models on built-in photos, compare them, write a report
	$(BIN)/python -m src.demo $(ARGS)

test: .venv/.installed  ## run the tests
	$(BIN)/python -m pytest $(ARGS)

browser-test: .venv/.installed  ## run the tests of pages, in a Chromium that is installed already
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -m browser $(ARGS)

lint: .venv/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: .venv/.installed  ## solve the ranges of pyproject.toml anew into constraints.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
		--custom-compile-command "make lock" --upgrade -o constraints.txt

clean:  ## remove the environment; runs in outputs/ and multirun/ stay
	rm -rf .venv *.egg-info
