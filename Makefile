# `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test test-kafka lint bench lock clean

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m ensurepip --upgrade >/dev/null
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	-$(BIN)/python -m compileall -qq -j 2 $(VENV)/lib  # pip leaves it out where PYTHONDONTWRITEBYTECODE is set
	touch $(INSTALLED)

demo: setup
	$(BIN)/headrace demo

test: setup
	$(BIN)/python -m pytest -m "not kafka"

test-kafka: setup
	$(BIN)/python -m pytest -m kafka

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks

lock:
	uv pip compile -q --generate-hashes --no-emit-index-url --universal --group dev --extra java --python-version 3.11 pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist run out *.egg-info
