# `make zero` trains a chat model from nothing; `make test` runs every check.
# Both set up .venv first, again only when pyproject.toml or constraints.txt change.
# Another Python: make zero PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip
NBVAL := $(BIN)/python -m pytest --nbval-lax --nbval-current-env \
	--nbval-cell-timeout=1200
CHAPTERS := $(wildcard notebooks/*.ipynb)
# They train the models that other chapters begin with.
FIRST := notebooks/00_tour.ipynb notebooks/13_reasoning.ipynb
NEEDS := error: MiniMind needs Python 3.10 or newer with venv \
	(Debian, Ubuntu: apt install python3-venv); \
	name another one with: make PYTHON=python3.12

.PHONY: help zero test lab book chat export chapters

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

zero: .venv/ready ## train the nano model from nothing, then chat (about ten minutes)
	$(BIN)/minimind zero

chat: .venv/ready ## chat with the model that `make zero` trained
	$(BIN)/minimind chat

test: export OMP_NUM_THREADS = 1
test: .venv/ready-dev ## run every check: export, style, tests, notebooks, book
	$(BIN)/python tools/export.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest
	$(NBVAL) $(FIRST)
	$(NBVAL) --numprocesses 2 --dist loadfile $(filter-out $(FIRST),$(CHAPTERS))
	$(MAKE) book

lab: .venv/ready-dev ## open the chapters in JupyterLab
	$(BIN)/jupyter lab notebooks

book: .venv/ready-dev ## build the site into _build/html, warnings are errors
	rm -rf _build
	$(BIN)/jupyter-book build . -W -n --keep-going --all --quiet
	@echo "The book is in _build/html/index.html"

export: .venv/ready-dev ## write the package from the notebooks
	$(BIN)/python tools/export.py

chapters: .venv/ready-dev ## run all chapters again and store their outputs
	$(BIN)/python tools/run_chapters.py

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 10)' \
		2>/dev/null || { echo "$(NEEDS)" >&2; exit 1; }
	$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/ready-dev: .venv/ready
	$(PIP) install -c constraints.txt -e '.[book,test]'
	@touch $@
