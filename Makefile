# What this project can do for you: type `make`.

PYTHON ?= python3
# More arguments for pip, for example another package index: make train PIP_ARGS="--extra-index-url URL"
PIP_ARGS ?=
# More arguments for the command itself: make train ARGS="--minutes 1", make test ARGS="-k config"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# On a terminal, pip shows what it downloads, how large it is, and how far it is.
QUIET := $(shell test -t 2 || echo --quiet)
INSTALL = $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt
PINNED := pyproject.toml constraints.txt

# One process for each core. Each gets a share of the tests, and takes some of another's when it has done its own.
PYTEST = $(BIN)/python -m pytest --numprocesses logical

FLOORS := $(VENV)/floors

# PyPI has one PyTorch for Linux on x86-64, the one for CUDA. No package index but PyPI is used unless you name it.
define ABOUT_PYTORCH
@if [ "$$(uname -sm)" = "Linux x86_64" ] && [ -z "$(PIP_ARGS)" ] && ! command -v nvidia-smi >/dev/null \
    && ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
  echo "The first time, this downloads PyTorch for CUDA, about 3 GB. Without an NVIDIA GPU, 200 MB are enough:"; \
  echo "  make $(MAKECMDGOALS) PIP_ARGS=\"--extra-index-url URL\""; \
  echo "with the URL that https://pytorch.org/get-started/locally/ shows for Linux, Pip, CPU."; \
fi
endef

.PHONY: help train studio test floors campaign check lint format docs screenshots constraints clean

help:
	@echo "make train    set everything up in $(VENV) and train a small GPT-2, here and now"
	@echo "make studio   the same, then open the runs in a browser"
	@echo "make test     set everything up in $(VENV) and run the tests: minutes"
	@echo "make floors   run the quick tests with the oldest versions that pyproject.toml allows"
	@echo "make campaign  the long tests: processes that die, hosts, clusters; a few of each kind, drawn anew each time"
	@echo "make check    what must hold before a change goes in: format, lint, types, layers, tests"
	@echo "make format   let ruff format the code and mend what it can"
	@echo "make docs     write docs/commands.md, docs/errors.md and the glossary anew from their sources"
	@echo "make screenshots  take the pictures of the studio in docs/ anew (needs Chromium and Korean fonts)"
	@echo "make clean    delete $(VENV) and what tools left behind; runs/ stays"
	@echo
	@echo 'PYTHON=python3.12         another Python (3.11 or newer)'
	@echo 'PIP_ARGS="..."            more arguments for pip, such as another package index'
	@echo 'ARGS="--minutes 1"        more arguments for nudge train or pytest'

train: $(VENV)/.installed
	@$(BIN)/python -m nudge train $(ARGS)
	@echo
	@echo "To type 'nudge' in this shell: source $(BIN)/activate"

studio: $(VENV)/.installed
	@$(BIN)/python -m nudge studio $(ARGS)

test: $(VENV)/.installed-dev
	$(PYTEST) --dist worksteal $(ARGS)

# The oldest version that pyproject.toml allows of each library but PyTorch, found before the installed ones.
$(FLOORS): pyproject.toml .ci/floors.py | $(VENV)/.installed-dev
	rm -rf $@
	$(BIN)/python .ci/floors.py > $(VENV)/floors.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --target $@ \
	  --requirement $(VENV)/floors.txt
	@touch $@

floors: $(FLOORS)
	PYTHONPATH=$(FLOORS) $(PYTEST) --dist worksteal -W default -m "not slow" tests/unit tests/golden $(ARGS)

campaign: $(VENV)/.installed-dev
	$(PYTEST) --dist loadscope --campaign $(ARGS)

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/errors.py
	$(BIN)/python docs/glossary.py

screenshots: $(VENV)/.installed-dev
	$(BIN)/python docs/screenshots.py $(ARGS)

# The stamps say what is installed; a changed pyproject.toml or constraints.txt is newer than they are.
$(VENV)/.installed: $(PINNED) | $(BIN)/python
	@echo "Installing nudge and the pinned libraries into $(VENV) ..."
	$(ABOUT_PYTORCH)
	@$(INSTALL) --editable ".[all]"
	@touch $@

$(VENV)/.installed-dev: $(PINNED) | $(BIN)/python
	@echo "Installing nudge, the pinned libraries and what the tests need into $(VENV) ..."
	$(ABOUT_PYTORCH)
	@$(INSTALL) --editable ".[all,dev]"
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "nudge needs Python 3.11 or newer, and '$(PYTHON)' is not one: try 'make PYTHON=python3.12 $(MAKECMDGOALS)'"; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Pin the newest versions that fit pyproject.toml, without what only one platform has. PyTorch's is chosen by hand:
# speed and exactness were measured with it. One of the peers that 'nudge bench' measures is compiled: that takes minutes.
constraints:
	$(PYTHON) -m venv --clear build/pins
	build/pins/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) ".[all,bench,dev]" torch==2.13.0
	{ echo "# Made by 'make constraints': every library that '.[all,bench,dev]' installs, at the version that was tested."; \
	  build/pins/bin/python -m pip freeze --all --exclude pip --exclude nudge-lm \
	  | sed -E -e 's/\+[^ ]*$$//' -e '/^(nvidia|triton|cuda)/d'; } > constraints.txt
	rm -rf build/pins

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
