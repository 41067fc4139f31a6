# Each target makes what it needs: a virtual environment for each purpose, brought up to date when pyproject.toml
# changes. Another interpreter: make PYTHON=/path/to/python3.12 test

SHELL := /bin/sh
EXTRAS ?= test
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

TEST := .venv/with-$(EXTRAS)
DEMO := .venv-demo/with-demo
DOCS := .venv-docs/with-docs

.PHONY: demo test lint bench docs clean

# A parameter study with LAMMPS on this machine, with its figure.
demo: $(DEMO)
	.venv-demo/bin/python examples/lennard_jones/lennard_jones.py

# Everything: style, types, all tests. Programs that pip brought (lmp, mpiexec) are found as in an active environment.
test: lint
	PATH="$(CURDIR)/.venv/bin:$$PATH" pytest

lint: $(TEST)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: $(TEST)
	.venv/bin/python -m bench

# The pages, into site/; a warning is an error.
docs: $(DOCS)
	.venv-docs/bin/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian ships `venv` without what it needs (ensurepip): say so before it leaves half an environment.
define install
	@test -n "$(PYTHON)" || { echo "heald needs Python 3.11 or newer, and none is on the PATH:" \
		"install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments:" \
		"on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
	@touch $@
endef

$(TEST): pyproject.toml
	$(call install,$(EXTRAS))

$(DEMO): pyproject.toml
	$(call install,demo)

$(DOCS): pyproject.toml
	$(call install,docs)
