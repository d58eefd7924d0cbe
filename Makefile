PYTHON ?= python3
BIN := .venv/bin
OUT ?= outputs/reproduce
unexport PYTHONDONTWRITEBYTECODE  # a module is compiled when it is first imported, and not once a process

.PHONY: help install check format test docs notebooks lower bench reproduce study ship

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## make .venv with everything that is needed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade --constraint constraints.txt setuptools
	$(BIN)/pip install --quiet --no-compile --no-build-isolation --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

check: install  ## formats, lint, import directions, card and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/sepsis-cql card --check
	mkdir -p .types && ln -sfn .. .types/sepsis_cql
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml -p sepsis_cql

format: install  ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: check  ## the gate: check, then every test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

docs: install  ## build the pages of docs/ into outputs/docs; every warning is an error
	$(BIN)/mkdocs build --strict --quiet

notebooks: install  ## run docs/notebooks anew and keep what they print
	TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/jupyter-execute --inplace docs/notebooks/*.ipynb

LOWER = tests/test_card.py tests/model tests/evaluation/test_fqe.py tests/synthetic/test_simulator.py tests/test_examples.py

lower:  ## run a part of the tests with the lowest versions that the ranges allow, in .venv-lower
	$(PYTHON) -m venv .venv-lower
	.venv-lower/bin/pip install --quiet setuptools==84.2.1
	.venv-lower/bin/pip install --quiet --no-build-isolation --constraint constraints-lower.txt --editable '.[icu-sepsis]' pytest
	OMP_NUM_THREADS=1 .venv-lower/bin/python -m pytest $(LOWER)

bench: install  ## time every job in small beside its alternatives and draw cost against size (MIMIC=demo adds builds)
	$(BIN)/python benchmarks/every.py --out outputs/bench $(if $(MIMIC),--mimic $(MIMIC))

TABLES = $(if $(DATA),--data $(DATA)) $(if $(MIMIC),--mimic $(MIMIC))

reproduce: install  ## the study in small: synthetic ICU to exported package (DATA=demo, MIMIC=folder for real tables)
	$(BIN)/sepsis-cql reproduce $(TABLES) --size small --out $(OUT) $(FORCE)

study: OUT = outputs/study
study: install  ## the study at the published size; what was stopped goes on (FORCE=--force starts anew)
	$(BIN)/sepsis-cql reproduce $(TABLES) --size published --out $(OUT) $(FORCE)

ship: install  ## put package, evidence and card of a finished study (OUT) at the root of this checkout
	test -f $(OUT)/export/manifest.json
	$(BIN)/sepsis-cql card --run $(OUT) --out $(OUT)/card --force
	rm -rf model && cp -r $(OUT)/card/model model
	rm -f evaluation/*.json && cp $(OUT)/card/evaluation/*.json evaluation
	cp $(OUT)/card/docs/results.md docs
	cp $(addprefix $(OUT)/card/,README.md config.json model.safetensors preprocessor_config.json) .
	$(BIN)/sepsis-cql card --check
