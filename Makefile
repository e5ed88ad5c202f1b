# Every target sets itself up: a virtual environment in .venv with the package built and installed into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
SOURCES := $(shell find velax native -name '*.py' -o -name '*.cc' -o -name '*.h') CMakeLists.txt pyproject.toml
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo gpt test test-slow lint types bench native sanitize clean

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.created $(SOURCES)
	$(BIN)/python -m pip install -q ".[demo]"
	touch $@

# The tests run on the checkout, with the native core that the wheel's build made.
$(VENV)/.test: $(VENV)/.created $(SOURCES)
	$(BIN)/python -m pip install -q ".[demo,test]"
	cp $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('platlib'))")/velax/_native*.so velax/
	touch $@

$(VENV)/.lint: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install -q "ruff>=0.17,<0.18" "pyright>=1.1"
	touch $@

# what builds the native core outside of a wheel
$(VENV)/.native: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install -q "nanobind>=2.4" cmake ninja numpy ml_dtypes
	touch $@

## train the digits classifier and save demo_digits.png
demo: $(VENV)/.demo
	cd examples && ../$(BIN)/python digits.py

## train a character-level GPT on Python's standard library and sample from it
gpt: $(VENV)/.demo
	cd examples && ../$(BIN)/python gpt.py

## all tests but the exhaustive sweeps, with JAX as the oracle
test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" tests

## the exhaustive sweeps
test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) -m slow tests

lint: $(VENV)/.lint
	$(BIN)/ruff check velax tests examples benchmarks tools
	$(BIN)/ruff format --check -q velax tests examples benchmarks tools

## static types of the public surface
types: $(VENV)/.lint $(VENV)/.test
	$(BIN)/pyright --pythonpath $(BIN)/python

## Velax and JAX in turn, with ratios
bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

## the native core into velax/, for work on a source checkout
native: $(VENV)/.native
	PYTHON=$${PYTHON_FOR_NATIVE:-$(CURDIR)/$(BIN)/python} tools/build_native.sh

## the native core's tests under the address and undefined-behaviour sanitizers
sanitize: $(VENV)/.test $(VENV)/.native
	tools/sanitize.sh $(BIN)/python

clean:
	rm -rf $(VENV) build dist velax/_native*.so .pytest_cache .ruff_cache
