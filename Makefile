# make run               set everything up, index sample photographs and serve the web page over them
# make run PHOTOS=DIR    the same over a folder of your own, which is indexed meanwhile
# make demo              index and search in the terminal; PHOTOS=DIR too
# make test              lint, type checks, import rules and all quick tests
# make test-all          the same with the slow tests, as CI runs them
# make photoset          the labelled photographs that quality is measured on
PYTHON ?= python3
PORT ?= 8420
# Processes that run the tests.
WORKERS ?= 3
# The tests that `make pytest` runs: the quick ones.
MARKED := not campaign and not slow
# Unpacked Debian packages for `make photoset`, which downloads them otherwise.
PACKAGES ?=
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports; compiling all modules here would take half of the time.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
EDITABLE := --config-settings editable_mode=strict
SOURCES := regard core photos models storage indexer search evaluation api
TORCH := $(shell grep '^torch==' constraints.txt)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
NVIDIA := $(or $(wildcard /proc/driver/nvidia/version),$(shell command -v nvidia-smi))
FILES := find $(SOURCES) -name '*.py' -o -path '*/web/*' -type f -o -path '*/shipped/*' -type f | sort

export PHOTOS
.NOTPARALLEL:
.PHONY: run demo test test-all lint types imports pytest campaign campaign-servers benchmark benchmark-service benchmark-models benchmark-size photoset docs openapi-lint clean FORCE

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

# More processes make tests of the page fail that wait for frames.
test-all: MARKED := not campaign
test-all: WORKERS := 2
test-all: test

# Type checks run on one core for more than a minute, so they run beside the tests.
test: lint imports
	@$(MAKE) types > $(VENV)/types.log 2>&1 & types=$$!; \
	$(MAKE) pytest WORKERS=$(WORKERS) MARKED="$(MARKED)"; tested=$$?; \
	wait $$types; typed=$$?; \
	cat $(VENV)/types.log; exit $$((tested || typed))

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test $(VENV)/.linked
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p regard

imports: $(VENV)/.installed-test $(VENV)/.linked
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml

# Each process takes whole files, in the order of tests/conftest.py. Python writes compiled modules,
# whatever the environment says, or each process that a test starts would compile regard again.
pytest: $(VENV)/.installed-test $(VENV)/.linked
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "$(MARKED)" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# The longest tests: crash and damage campaigns at full length, with new random examples each time.
campaign: $(VENV)/.installed-test $(VENV)/.linked
	$(BIN)/python -m pytest -m campaign --timeout 1800 --hypothesis-profile explore

# The tests of the HTTP API before two servers, each request to one of them at random.
campaign-servers: $(VENV)/.installed-test $(VENV)/.linked
	$(BIN)/python -m pytest -m campaign -k two-servers --timeout 1800 tests/api/http

benchmark: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/indexing_rate.py $(PHOTOS)

# Search latency, alone and during uploads; see docs/performance.md.
benchmark-service: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/service_load.py $(PHOTOS)

# The large models at full size with random weights, on this machine's GPU; see docs/performance.md.
benchmark-models: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/models.py --random full

# How everything grows with the library: BENCHMARK_SIZE="--photographs 50000 --home DIR".
benchmark-size: $(VENV)/.installed-run $(VENV)/.linked
	$(BIN)/python benchmarks/library_size.py $(BENCHMARK_SIZE)

# The labelled photographs, composed from Debian packages; see docs/quality.md.
photoset: photoset/captions.json

photoset/captions.json: | $(VENV)/.installed-run
	$(BIN)/python benchmarks/photoset/make_photoset.py photoset $(if $(PACKAGES),--packages "$(PACKAGES)")

# The documentation as a site; a broken link is an error.
docs: $(VENV)/.installed-docs $(VENV)/.linked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Redocly's recommended rules on the OpenAPI document; needs Node.
openapi-lint: $(VENV)/.installed-test $(VENV)/.linked
	$(BIN)/python -c 'import json; from regard.api.http.app import create_api; print(json.dumps(create_api().openapi()))' > $(VENV)/openapi.json
	npx --yes @redocly/cli@2.77.0 lint $(VENV)/openapi.json

clean:
	rm -rf $(VENV) build demo-output site *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# On Linux, PyPI's torch is a CUDA build of several gigabytes. Without an NVIDIA driver, take the CPU build
# from PyTorch's index, or where that can't be reached whatever the configured index has.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@if [ "$$(uname -s)" = Linux ] && [ -z "$(NVIDIA)" ]; then \
	  echo "installing the CPU build of $(TORCH)"; \
	  $(INSTALL) --no-deps --retries 1 --timeout 10 --index-url $(TORCH_CPU_INDEX) $(TORCH) 2>/dev/null \
	    || $(INSTALL) $(TORCH); \
	fi
	touch $@

$(VENV)/.installed-run: pyproject.toml constraints.txt $(VENV)/.torch | $(BIN)/python
	$(INSTALL) -c constraints.txt $(EDITABLE) -e '.[cpu,video]'
	touch $@ $(VENV)/.linked

$(VENV)/.installed-test: pyproject.toml constraints.txt $(VENV)/.torch | $(BIN)/python
	$(INSTALL) -c constraints.txt $(EDITABLE) -e '.[test]'
	touch $@ $(VENV)/.installed-run $(VENV)/.linked

$(VENV)/.installed-docs: pyproject.toml constraints.txt $(VENV)/.torch | $(BIN)/python
	$(INSTALL) -c constraints.txt $(EDITABLE) -e '.[cpu,docs]'
	touch $@ $(VENV)/.installed-run $(VENV)/.linked

# A strict editable install links the files that were there; update the links when files come or go.
$(VENV)/.files: FORCE | $(BIN)/python
	@$(FILES) | cmp -s - $@ || $(FILES) > $@

$(VENV)/.linked: $(VENV)/.files | $(VENV)/.installed-run
	$(INSTALL) --no-deps $(EDITABLE) -e .
	touch $@
