# make demo and make test set everything up by themselves; the rest assumes `make test` or `make install` has run once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check bench docs mutants install clean

demo: $(VENV)/demo.stamp
	$(BIN)/kmixup demo --out runs/demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -q -W -b html -c docs . site

mutants: $(VENV)/dev.stamp
	$(BIN)/python -m pip install -q "mutmut>=3.8"
	$(BIN)/python tests/mutants.py

install: $(VENV)/dev.stamp

clean:
	rm -rf $(VENV) site dist build docs/tutorials src/kmixup/_native/*.so

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# An editable installation builds the compiled core where it finds a compiler.
BUILD := pyproject.toml setup.py $(wildcard src/kmixup/_native/*.[ch])

$(VENV)/demo.stamp: $(BUILD) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[experiments]"
	touch $@

$(VENV)/dev.stamp: $(BUILD) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[dev]"
	touch $@ $(VENV)/demo.stamp

$(VENV)/docs.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install -q -e ".[docs]"
	touch $@
