# Every target makes the environment it needs; a second run starts in seconds.
STACK ?= onedl
VENV ?= .venv$(if $(filter-out onedl,$(STACK)),-$(STACK))
ifeq ($(STACK),openmmlab)
PYTHON ?= $(shell command -v python3.10 >/dev/null && python3.10 -c '' 2>/dev/null && echo python3.10 || ls -d $$HOME/.pyenv/versions/3.10*/bin/python3.10 2>/dev/null | tail -n 1 | grep . || echo python3)
else
PYTHON ?= python3
endif
BIN := $(VENV)/bin
# at most four processes, each with whole files, as some share a fixture that takes seconds
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: help install demo test test-slow docs lint clean

help:
	@echo 'make demo       train a small DeiT, grow it in three ways, compare with the base trained on (under 12 minutes)'
	@echo 'make test       the tests (about ten minutes); STACK=torch2.11: with torch 2.11,'
	@echo '                STACK=openmmlab: with the original OpenMMLab packages'
	@echo 'make test-slow  the tests that take minutes each'
	@echo 'make docs       the documentation as a site, in build/docs'
	@echo 'make install    only the environment; make lint; make clean (spares data and work_dirs)'

install:
	@$(PYTHON) tools/dev/install.py --venv $(VENV) --stack $(STACK)

demo: install
	$(BIN)/python tools/study/demo.py

test: install
	$(PYTEST)

test-slow: install
	$(PYTEST) -m slow

docs: install
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/docs.txt
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

lint: install
	$(BIN)/ruff check .

# spared: data and work_dirs, which hold data sets and checkpoints, and the compiled mmcv in the user's cache
clean:
	rm -rf .venv .venv-newest .venv-torch2.11 .venv-openmmlab .venv*.lock *.egg-info build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
