# Two commands: `make run` sets everything up and serves regard's page over sample photographs; `make test` holds
# it to its word.
#   make run PHOTOS=DIR   the page over a folder of your own, while it is being indexed
#   make demo             index and search in the terminal alone, PHOTOS=DIR too
PYTHON ?= python3
PORT ?= 8420
# Test files are shared out among so many processes.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EDITABLE := --config-settings editable_mode=strict
SOURCES := regard core photos models storage indexer search evaluation api
FILES := find $(SOURCES) -name '*.py' -o -path '*/web/*' -type f -o -path '*/shipped/*' -type f | sort

export PHOTOS
.NOTPARALLEL:
.PHONY: run demo test lint types imports pytest campaign benchmark benchmark-service benchmark-models clean FORCE

run: $(VENV)/.installed-run $(VENV)/.linked
ifdef PHOTOS
	$(BIN)/regard serve --port $(PORT) --open --import "$$PHOTOS" \
	  --home "demo-output/home-$$(printf %s "$$PHOTOS" | cksum | cut -d ' ' -f 1)"
else
	$(BIN)/regard demo --output demo-output
	$(BIN)/regard serve --port $(PORT) --open --home demo-output/home
endif

demo: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/regard demo --output demo-output $(if $(PHOTOS),--photos "$$PHOTOS")

test: lint types imports pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test $(VENV)/.linked
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p regard

imports: $(VENV)/.installed-test $(VENV)/.linked
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml

# Whole files to each process, in the order of tests/conftest.py.
pytest: $(VENV)/.installed-test $(VENV)/.linked
	$(BIN)/python -m pytest -m "not campaign" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# The slow tests: crash and damage campaigns at full length, and other examples each time.
campaign: $(VENV)/.installed-test $(VENV)/.linked
	$(BIN)/python -m pytest -m campaign --timeout 1800 --hypothesis-profile explore

benchmark: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/indexing_rate.py $(PHOTOS)

# How long searches take alone and beside uploads; see docs/performance.md.
benchmark-service: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/service_load.py $(PHOTOS)

# The big models at full size, with random weights, on this machine's GPU; see docs/performance.md.
benchmark-models: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/models.py --random full

clean:
	rm -rf $(VENV) build demo-output *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt $(EDITABLE) -e '.[cpu]'
	touch $@ $(VENV)/.linked

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt $(EDITABLE) -e '.[test]'
	touch $@ $(VENV)/.installed-run $(VENV)/.linked

# A strict editable install links the files that were there; link anew when files come or go.
$(VENV)/.files: FORCE | $(BIN)/python
	@$(FILES) | cmp -s - $@ || $(FILES) > $@

$(VENV)/.linked: $(VENV)/.files | $(VENV)/.installed-run
	$(PIP) install --no-deps $(EDITABLE) -e .
	touch $@
