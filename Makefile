# The commands of this project. `make` alone lists them.
# Each one makes .venv when it is missing or out of date; a second run skips that.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
PAGE := _build/html/index.html

# What shapes every page. What single pages are made from, book/_ext/freshness.py watches.
LAYOUT := _config.yml _toc.yml $(wildcard book/_ext/*.py book/_ext/*.jinja book/_static/*.*)

.DEFAULT_GOAL := help
.PHONY: help install book pdf slides test bench heavy lint format address clean
.DELETE_ON_ERROR:

help: ## list these commands
	@echo "make COMMAND, where COMMAND is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		awk -F '|' '{ printf "%-11s%s\n", $$1, $$2 }'
	@echo
	@echo "Settings: PYTHON=python3.12 (which Python makes .venv), SAS_DATA=FOLDER (real data)."

install: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@# Some systems ship Python without ensurepip: there the system's pip fills the .venv.
	@$(PY) -m pip --version >/dev/null 2>&1 || \
		$(PYTHON) -m venv --clear $(VENV) 2>/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(PY) install pip; }
	@echo "Installing into $(VENV); the first time this takes some minutes and 2.5 GB."
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

book: $(STAMP) _build/.fresh ## build the book; prints the page to open
	@$(BIN)/jupyter-book build . -W -n --keep-going || { \
		rm -rf _build/.doctrees; \
		echo "The book was not built: see the warnings and errors above." >&2; exit 1; }
	@touch _build/.built
	@echo
	@echo "The book is ready. Open this page in a browser:"
	@echo "  $(CURDIR)/$(PAGE)"

# Pages that left the contents stay behind, and the others keep their old menu: a change there
# lays all pages out anew. With other packages the chapters are executed again as well.
_build/.fresh: $(LAYOUT) $(STAMP)
	@rm -rf _build/.doctrees _build/html $(if $(filter $(STAMP),$?),_build/.jupyter_cache)
	@mkdir -p _build && touch $@

pdf: book ## print the book as one PDF, _build/pdf/sudden-drops.pdf
	@$(PY) book/_ext/pdf.py

slides: $(STAMP) ## make the slides for a session of 90 minutes; prints the file to open
	@$(PY) book/_ext/slides.py

test: $(STAMP) ## run the tests
	$(PY) -m pytest

bench: $(STAMP) ## compare the speed with named peers; make bench ARGS=--help
	cd tests && ../$(PY) -m benchmarks $(ARGS)

heavy: $(STAMP) ## run the long experiments whose results are not fresh (hours)
	$(BIN)/sas heavy run
	$(PY) book/_ext/readme_figure.py

lint: $(STAMP) ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP) ## put the code into the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

address: $(STAMP) ## in a fork: make address URL=https://github.com/you/your-fork
	$(PY) book/_ext/address.py $(URL)

clean: ## remove the built book, caches and .venv
	rm -rf _build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
