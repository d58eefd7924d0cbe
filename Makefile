PYTHON ?= python3
BIN := .venv/bin
OUT ?= outputs/reproduce

.PHONY: install test reproduce

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade --constraint constraints.txt setuptools
	$(BIN)/pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	touch $@

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/sepsis-cql card --check
	mkdir -p .types && ln -sfn .. .types/sepsis_cql
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml -p sepsis_cql
	$(BIN)/pytest --numprocesses 2

reproduce: install
	$(BIN)/sepsis-cql reproduce $(if $(DATA),--data $(DATA)) $(if $(MIMIC),--mimic $(MIMIC)) --out $(OUT) --force
