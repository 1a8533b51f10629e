# make demo: upscale the bundled clip. make test: the whole test suite. Both set up .venv themselves (Python >= 3.12).
VENV := .venv
MINGW := x86_64-w64-mingw32
BIN := $(VENV)/bin
SOURCES := $(shell find arch export presets training vsaether chainner_nodes -type f -not -path '*/__pycache__/*' 2>/dev/null) \
           setup.cfg setup.py pyproject.toml
# The first interpreter that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3 python; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test test-networks test-filter lint types check windows clean

demo: $(VENV)/.runtime
	$(BIN)/vsaether demo --output demo

# What OpenVINO's Python package refuses to share with the OpenVINO of VapourSynth's plugin, chaiNNer's names, and
# vsjetpack's settings want processes of their own; two rows of them run at once, with one thread each.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(MAKE) --jobs=2 --output-sync=target --keep-going test-networks test-filter

test-networks: $(VENV)/.dev
	$(BIN)/pytest tests/presets tests/arch tests/spandrel tests/export tests/training tests/trainers tests/benchmarks

test-filter: $(VENV)/.dev
	$(BIN)/pytest tests/chainner
	$(BIN)/pytest tests/vsaether tests/cli tests/docs
	$(BIN)/pytest tests/vsjetpack

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

check: lint types test

# The wheel for Windows, built here by mingw-w64 (g++-mingw-w64-x86-64-posix), and looked at; run, where wine64 is.
windows: $(VENV)/.dev
	rm -rf build/windows
	CC=$(MINGW)-gcc-posix CXX=$(MINGW)-g++-posix \
	    $(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/windows .
	$(BIN)/pip download --quiet --no-deps --only-binary=:all: --platform win_amd64 --dest build/windows \
	    vapoursynth==$$($(BIN)/python -c "from importlib.metadata import version; print(version('vapoursynth'))")
	$(BIN)/python -m pytest tests/windows

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed; give it as PYTHON=/path/to/python." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(SOURCES) | $(BIN)/pip
	$(BIN)/pip install --quiet .
	@touch $@

$(VENV)/.dev: $(SOURCES) | $(BIN)/pip
	$(BIN)/pip install --quiet ".[dev]"
	$(BIN)/pip install --quiet --no-deps neosr==0.1.0 # a trainer, to train in; it would pin an old numpy
	@touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) build demo *.egg-info
