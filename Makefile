# Everything runs in .venv, which the first command creates. PYTHON must be 3.11 or newer.
PYTHON ?= python3
# Of make versions: the lowest Python that pyproject.toml allows, and the newest that there is here.
LOWEST_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
AXE_VERSION := 4.14.1
AXE := .npm/axe-core-$(AXE_VERSION).js

.PHONY: demo page test test-long test-slow test-page lint format docs wheel versions clean

demo: .venv/installed  ## train on drawn garments, evaluate, and write the report
	$(BIN)/python train.py --config=configs/garments.py --workdir=$(DEMO) --config.data.cache_dir=runs/cache
	$(BIN)/python evaluate.py --workdir=$(DEMO)

page: .venv/installed  ## the demo's run as a page in the browser
	$(BIN)/python serve.py --workdir=$(DEMO)

test: .venv/installed  ## the tests, but for long ones
	$(BIN)/python -m pytest -q -n 2 --dist loadfile  # a file's tests share what they compile

test-long: .venv/installed  ## seconds each: whole runs, finite differences, large oracles; CI runs them, too
	$(BIN)/python -m pytest -q -m long -n 2 --dist loadfile

test-slow: .venv/installed  ## minutes each
	$(BIN)/python -m pytest -q -m slow

test-page: .venv/installed $(if $(shell command -v npm),$(AXE))  ## the page, click by click in chromium; pictures of it in runs/page
	AXE=$(AXE) $(BIN)/python -m pytest -q -n 0 -m page tests/serving/page

# checks of accessibility; the file alone, so that nothing of npm lies in the checkout
$(AXE):
	mkdir -p $(@D)
	npm pack --silent --pack-destination $(@D) axe-core@$(AXE_VERSION)
	tar -xzf $(@D)/axe-core-$(AXE_VERSION).tgz -C $(@D) --strip-components=1 package/axe.min.js
	mv $(@D)/axe.min.js $@

lint: .venv/installed  ## formatter, linter, type checker and import rules; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-cache

format: .venv/installed  ## let the formatter and linter mend what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: .venv/installed  ## the wheel, installed in an empty environment and used from another folder
	.ci/wheel

versions: .venv/installed  ## the tests with the lowest versions that pyproject.toml allows, and with the newest
	.ci/versions lowest --python=$(LOWEST_PYTHON) --out=benchmarks/results/versions.json
	.ci/versions newest --python=$(NEWEST_PYTHON) --out=benchmarks/results/versions.json

docs: .venv/docs  ## the documentation site, in site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove the environment, the demo's run and the site
	rm -rf .venv .npm runs site

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@
