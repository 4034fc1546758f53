# `make demo` and `make test` each do all their own set-up: Python 3.11 or newer and make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
LIGHT_TESTS ?= $(wildcard tests/test_*.py) tests/hwmodels tests/sim tests/scenarios
OUT ?= out
SCENARIO ?= deepseek-v3-decode-ep32
# More arguments for pytest, for example PYTEST_ARGS="-n 0 -k fairshare".
PYTEST_ARGS ?= -n auto
# What the kernels' tests run on: a CPU build of PyTorch and Triton's interpreter. Where pip would find only the (large)
# CUDA build, give the index of PyTorch's CPU builds: make test TORCH_INDEX=<its address>.
TORCH ?= torch==2.13.0
TRITON ?= triton==3.7.1; platform_system == 'Linux'
TORCH_INDEX ?=
NVSHMEM ?= nvidia-nvshmem-cu13==3.4.5
TABLES ?= ../shared/measurements
LIBRARY := hwmodels sim kernels validate scenarios

.PHONY: help demo test test-long browser check lint format types contracts wheel-check test-oldest test-gpu gpu-bench bench-engine bench-serving bench-study bench-explore clean regenerate gallery-page
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.light  ## simulate DeepSeek-V3 decode on 4 nodes of H100, print the answer, write the report
	@mkdir -p $(OUT)
	$(BIN)/epicycle simulate $(SCENARIO) --html $(OUT)/$(SCENARIO).html

test: $(VENV)/.full  ## run every test (those on a GPU where there is one); names each skip and its reason
	$(BIN)/python -m pytest $(PYTEST_ARGS)

browser:  ## install the browser that the pages' tests need (Debian's chromium), where there is none
	@command -v chromium || command -v chromium-browser || command -v google-chrome || .ci/chromium

test-long: $(VENV)/.full  ## run every test, long suites whole (make test runs a share of them, always the same)
	EPICYCLE_LONG=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types contracts wheel-check test  ## everything that CI checks

lint: $(VENV)/.full  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.full  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy names modules after the folder they lie in, so it looks at the checkout through a link called `epicycle`:
# any clone, whatever its folder is called, is then checked under the names its users import.
types: $(VENV)/.full  ## mypy --strict over the library
	@mkdir -p .mypy_cache/view && ln -sfn ../.. .mypy_cache/view/epicycle
	cd .mypy_cache/view && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache \
		epicycle/__init__.py epicycle/__main__.py epicycle/cli.py $(addprefix epicycle/,$(LIBRARY))

contracts: $(VENV)/.full  ## import-linter: who may import whom
	$(BIN)/lint-imports --cache-dir .import_linter_cache

wheel-check: $(VENV)/.full  ## sdist -> wheel -> clean environment -> epicycle used from /
	PYTHON=$(BIN)/python .ci/wheel-check

# Every floor of pyproject.toml at once, without torch: what needs it is named as skipped.
test-oldest: $(OLDEST)/.done  ## run the commands and the light tests with the oldest allowed release of every dependency
	cd / && $(CURDIR)/$(OLDEST)/bin/epicycle catalog >/dev/null
	cd / && $(CURDIR)/$(OLDEST)/bin/epicycle simulate ep-anatomy >/dev/null
	cd / && $(CURDIR)/$(OLDEST)/bin/epicycle plan plan-deepseek-v3-h200 >/dev/null
	cd / && $(CURDIR)/$(OLDEST)/bin/epicycle validate --help >/dev/null
	$(OLDEST)/bin/python -m pytest $(PYTEST_ARGS) $(LIGHT_TESTS)

# On a machine with a GPU, whose own torch and Triton are used (and its pytest and hypothesis).
test-gpu:  ## hold every kernel against its reference on this machine's GPU (make test does, too, with its own torch)
	$(PYTHON) -m pytest tests/gpu -m gpu

# Likewise: every check, then every timing that the laws need, the fit, and what it misses by. Run it again to go on.
gpu-bench:  ## measure this machine's GPU, calibrate on it, judge that: out/rows.csv, bench.html, mine.yaml, calibration.html
	$(PYTHON) -m epicycle calibrate-here --work $(OUT)

bench-engine: $(VENV)/.light  ## time the event engine, beside a SimPy process per message, the closed forms, a start
	$(BIN)/python tests/benchmarks/engine_speed.py
	$(BIN)/python tests/benchmarks/closed_form_speed.py
	$(BIN)/python tests/benchmarks/start_speed.py

bench-study: $(VENV)/.light  ## time studies: plans on two cores against one, layers in closed form, memory
	$(BIN)/python tests/benchmarks/study_speed.py

bench-explore: $(VENV)/.full  ## time the page of explore: every slider moved in a browser, to the numbers and to the front
	$(BIN)/python tests/benchmarks/explore_speed.py

regenerate: $(VENV)/.full  ## fit the shipped constants and make the generated pages again (needs the measurement tables)
	$(BIN)/python -m epicycle.validate.fit.shipped $(TABLES)
	$(BIN)/python -m epicycle.validate.fit.libraries $(TABLES)/published_ep_2.csv
	$(BIN)/python -m epicycle.validate.serving.shipped $(TABLES)
	$(BIN)/python -m epicycle.validate.pages.docs_page $(TABLES)
	$(BIN)/python -m epicycle.scenarios.say.gallery_page
	$(BIN)/python tests/scenarios/printed.py
	$(BIN)/python tests/scenarios/picture.py
	$(BIN)/python tests/house/import_graph.py

gallery-page: $(VENV)/.light  ## reproduce all published systems and write docs/gallery.md
	$(BIN)/python -m epicycle.scenarios.say.gallery_page

bench-serving: $(VENV)/.light  ## play requests one by one: a hundred thousand, and a day of 96 GPUs
	$(BIN)/python tests/benchmarks/serving_speed.py

replay: $(VENV)/.light  ## replay the measured deployments request by request, beside the closed form (needs the tables)
	$(BIN)/python tests/benchmarks/replay_errors.py $(TABLES)/serving.csv

clean:  ## remove the environment and everything built
	rm -rf $(VENV) $(OLDEST) $(OUT) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"epicycle needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.light: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

$(OLDEST)/.done: pyproject.toml .ci/oldest
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "the oldest releases have no wheels for a newer Python: make test-oldest PYTHON=python3.11")'
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) .ci/oldest > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install -qq --disable-pip-version-check -c $(OLDEST)/constraints.txt -e . pytest pytest-xdist hypothesis
	@touch $@

# torch comes first and by its exact version, so that nothing after it can pull in another build.
$(VENV)/.full: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install -qq --disable-pip-version-check $(TORCH) "$(TRITON)" -e '.[dev,cluster,explore,pandas,parquet]'
	@# NVSHMEM's device library, for one compile check; that test skips itself where there is none.
	-$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps $(NVSHMEM)
	@touch $@ $(VENV)/.light
