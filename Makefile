# make demo: upscale the bundled clip. make test: the whole test suite. Both set up .venv themselves (Python >= 3.12).
VENV := .venv
MINGW := x86_64-w64-mingw32
BIN := $(VENV)/bin
SOURCES := $(shell find arch export presets training vsaether chainner_nodes -type f -not -path '*/__pycache__/*' 2>/dev/null) \
           setup.cfg setup.py pyproject.toml
# The first interpreter that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3 python; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test lint types check windows clean

demo: $(VENV)/.runtime
	$(BIN)/vsaether demo --output demo

# Three processes: openvino's Python package refuses to share one with the OpenVINO of VapourSynth's plugin, and
# vsjetpack's settings are its own affair.
test: $(VENV)/.dev
	$(BIN)/pytest tests/presets tests/arch tests/spandrel tests/export tests/training tests/trainers tests/benchmarks
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
