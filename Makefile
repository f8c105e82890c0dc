# Each target is the first command a newcomer may type: it makes .venv and installs the exact lock, once.
PYTHON ?= python3
BIN := .venv/bin
# Python keeps what it compiles even where this variable forbids it: compiling takes each process longer than importing.
export PYTHONDONTWRITEBYTECODE :=
# A worker takes 1 to 3 GiB, and each imports PyTorch anew: for a few tests, `make test WORKERS= ARGS="tests/x.py -k y"`.
WORKERS ?= -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-browser fuzz soak lint audit lock clean

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Which build of PyTorch fits depends on the machine, so these packages are pinned without hashes.
BUILDS := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit

# --no-compile: Python compiles what is imported, which is less than all that is installed.
.venv/.installed: pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --no-compile --require-hashes --no-deps -r requirements.lock
	$(PIP) --no-compile -c constraints.txt torch torchvision
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

demo: .venv/.installed  ## fill built-in images with the shipped networks, train a small one, write a report
	$(BIN)/python -m src.demo $(ARGS)

test: .venv/.installed  ## run the tests, in as many processes as there are cores
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-browser: .venv/.installed  ## run the tests of pages alone, in a Chromium that is installed already
	$(BIN)/python -m pytest -m browser $(or $(ARGS),tests/browser)

fuzz: .venv/.installed  ## run the tests with far more inputs, for minutes
	$(BIN)/python -m pytest -m fuzz $(ARGS)

soak: .venv/.installed  ## run the tests that kill runs again and again, for minutes
	$(BIN)/python -m pytest -m soak $(ARGS)

lint: .venv/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: .venv/.installed  ## ask PyPI which known vulnerabilities the pinned versions have
	$(PIP) -c constraints.txt pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
	--custom-compile-command "make lock"

lock: .venv/.installed  ## solve the ranges of pyproject.toml again: pins in constraints.txt, with hashes in requirements.lock
	$(PIP) uv
	$(LOCK) --upgrade -o constraints.txt
	$(LOCK) -c constraints.txt --generate-hashes -o requirements.lock \
		$(addprefix --no-emit-package=,$(BUILDS) $(shell grep -oE '^nvidia-[a-z0-9-]+' constraints.txt))

clean:  ## remove the environment; runs in outputs/ and multirun/ stay
	rm -rf .venv *.egg-info
