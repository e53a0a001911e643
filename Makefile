# Everything runs in a virtual environment that the first command makes.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready
OUT    ?= runs/demo

.PHONY: help demo test test-all lint docs claims bench clean

help:
	@echo "make demo      train a transformer that groks and its control, watched live; write a report"
	@echo "make test      run the tests"
	@echo "make test-all  run the long tests too"
	@echo "make lint      ruff and pyright"
	@echo "make bench     measure time, memory and accuracy; write docs/performance.md (about an hour)"
	@echo "make claims    judge every claim on the recorded runs; write results/claims, docs/claims and pictures"
	@echo "make docs      build the documentation into site/"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("expected Python 3.11 to 3.14, got %d.%d; set PYTHON=" % sys.version_info[:2] if not (3, 11) <= sys.version_info < (3, 15) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt --editable '.[all]' --group dev
	@touch $(READY)

demo: $(READY)
	$(BIN)/spectral-edge demo --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest -n 2

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 -m ''

lint: $(READY)
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/ruff format --check src tests tools benchmarks examples
	$(BIN)/pyright

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

claims: $(READY)
	$(BIN)/python tools/make_claims.py

bench: $(READY)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis
