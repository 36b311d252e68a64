# `make demo` runs the main job, `make test` the tests; both make .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
# What is installed; CI adds screen, chgnet, sevennet and tblite.
EXTRAS ?= local,dev

.PHONY: demo ncm test check clean-demo

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("al needs Python 3.11 or newer; say PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'installing al with the extras $(EXTRAS) into .venv, some 6 GB: a few minutes, without a word of pip'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: .venv/.ready
	$(BIN)/al init_bulk examples/si/init_param.json examples/si/resource.json
	$(BIN)/al init_bulk examples/si/valid_param.json examples/si/resource.json
	$(BIN)/al run examples/si/param.json examples/si/resource.json
	$(BIN)/al status examples/si/work

# Screening: published networks and CHGNet beside what `make demo` needs.
.venv/.screen: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[screen,chgnet]'
	touch $@

ncm: .venv/.screen
	$(BIN)/al screen examples/ncm/param.json examples/ncm/resource.json

test: .venv/.ready
	$(BIN)/python -m pytest -m "not long" -n 2 -rs

# What CI adds to the tests.
check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
