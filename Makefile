# The environment that everything runs in, and the Python that it is made from.
VENV ?= .venv
PYTHON ?= python3
SUPPORTED := 3.10 3.11 3.12 3.13

python := $(VENV)/bin/python
installed := $(VENV)/.focal_retina-installed

# PYTHON, if the user named one or there is no environment yet; else the environment's.
named := $(filter-out file,$(origin PYTHON))
chosen := $(if $(or $(named),$(if $(wildcard $(python)),,none yet)),$(PYTHON),$(python))
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

export MPLBACKEND := Agg
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install check-python demo test lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s%s\n", $$1, $$2}' Makefile
	@echo 'PYTHON=python3.12 names the interpreter, VENV=folder the environment (.venv).'

install: $(installed) ## everything into .venv, once; the targets below do it by themselves

$(installed): $(wildcard requirements/*.txt) setup.py pyproject.toml Makefile \
		focal_retina/install_detectron2.py | check-python
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(python) -m pip install -e '.[eval,export,timm,dev]'
	$(python) focal_retina/install_detectron2.py
	@touch $@

check-python:
	$(eval found := $(call version,$(chosen)))
	$(if $(filter $(SUPPORTED),$(found)),,$(error focal_retina needs Python 3.10 to 3.13, but \
		$(chosen) is $(or $(found),not there): name another, as in make install PYTHON=python3.12))
	$(if $(wildcard $(python)),$(if $(filter $(found),$(call version,$(python))),,$(error \
		$(VENV) was made by Python $(call version,$(python)), not $(found): \
		remove it, or add VENV=.venv-$(found) to keep both)))

demo: install ## train and evaluate a small model on drawn shapes (minutes)
	$(python) -m focal_retina.tools.demo

# Serial: torch's own threads already use the cores. Two of them, so that every machine sums alike.
test: export OMP_NUM_THREADS := 2
test: install ## the tests; PYTEST="-m 'not slow'" for the quick ones
	$(python) -m pytest -q $(PYTEST)

lint: install ## ruff's checks and its format, and mypy's types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: install ## let ruff format and sort the code
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

clean: ## remove what builds and tests left behind (not .venv, not output/)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find focal_retina tests configs -name __pycache__ -prune -exec rm -rf {} +
