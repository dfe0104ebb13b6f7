# Every target sets up what it needs: a fresh clone and `make demo` are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

# dg compares the active environment with the project's.
export VIRTUAL_ENV := $(abspath $(VENV))

# Nothing is compiled at the install, see docs/operate/environments.md: each module is by the first process that imports it, which must
# then keep it.
unexport PYTHONDONTWRITEBYTECODE

# uv installs the pinned packages in a quarter of pip's time, takes the CPU build of torch (PyPI's brings 4 GB of CUDA), and leaves
# out what nothing loads; where it cannot, pip does. pip knows of local wheels, and of an index beside PyPI, by its own configuration.
INSTALL := $(BIN)/uv pip install --quiet --native-tls --python $(BIN)/python --constraint constraints.txt --override overrides.txt
PLAIN_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

.PHONY: demo demo-full test test-quick every-test quick-tests units slow-tests coverage mutants long quarter quality noise significance controls rollouts drift drift-quarters demonstrations learners ledger ray lint docs kernels ui stack bench soak clean faults wheel-project

demo: $(STAMP)
	$(BIN)/hfp demo

# Four weekly models of each strategy instead of one or two.
demo-full: $(STAMP)
	$(BIN)/hfp demo --full

# Says at the end what all processes of a command used, servers and what outlived its parent too.
COST := $(BIN)/python -m hf_pipelines_tests.cost
# Tests that share a fixture of their module run on one worker, in the order of hf_pipelines_tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -q --numprocesses 3 --dist loadgroup --no-loadscope-reorder

UNITS := not servers and not browser and not pipeline and not long

# All of it, or a part: make test TESTS=hf_pipelines_tests/commands/test_cli.py
TESTS ?=
test: $(DEV_STAMP)
ifeq ($(TESTS),)
	@$(COST) --budget $(MAKE) --no-print-directory every-test
else
	@$(COST) $(PYTEST) $(TESTS)
endif

every-test: $(DEV_STAMP)
	@$(MAKE) --no-print-directory --jobs 2 lint docs kernels
	$(PYTEST) -m "not long"

# What answers within two minutes: units and contracts; no server, no browser, no run of the pipeline, no test that was found slow.
test-quick: $(DEV_STAMP)
	@$(COST) $(MAKE) --no-print-directory quick-tests

quick-tests: $(DEV_STAMP) kernels
	@$(MAKE) --no-print-directory --jobs 2 units lint

units: $(DEV_STAMP)
	$(PYTEST) -m "$(UNITS) and not slow"

# Measures units and contracts, and writes the list of those that `make test-quick` leaves out.
slow-tests: $(DEV_STAMP)
	HF_TEST_COSTS=.test_costs.json $(PYTEST) -m "$(UNITS)"
	$(BIN)/python -m hf_pipelines_tests.slow_tests .test_costs.json

# Lines and branches of research/ that its tests run, with those of four parts that are tried through their assets, and kernels as plain
# Python; fails below 95 %.
THROUGH_ASSETS := $(addprefix hf_pipelines_tests/,test_bad_input.py components/test_drift.py components/test_sweep.py commands/test_explain.py)
OF_KERNELS := $(addprefix hf_pipelines_tests/research/,backtest/test_reference.py backtest/test_limited.py backtest/test_many.py signals/test_limits.py \
	learners/test_tree_boxes.py)
COVERED := $(subst -m pytest,-m coverage run -m pytest,$(PYTEST))
coverage: $(DEV_STAMP)
	@$(BIN)/python -m coverage erase
	$(COVERED) -m "not long" hf_pipelines_tests/research hf_pipelines/research $(THROUGH_ASSETS)
	NUMBA_DISABLE_JIT=1 $(COVERED) $(OF_KERNELS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

# Small errors planted in what must have none, 150 drawn by a seed; fails if tests miss more than a tenth in a module.
mutants: $(DEV_STAMP)
	@$(COST) $(BIN)/python -m hf_pipelines_tests.mutants --sample 150 --seed 0

# What takes minutes by its nature: the whole stack through kills and a second start, weeks of files, notifications through
# restarts, long waits. `make test` has short forms of these.
long: $(DEV_STAMP)
	@$(COST) $(PYTEST) -m long

# The simulated quarter in whole: `make test` plays three of its thirteen weeks.
quarter: $(DEV_STAMP)
	HF_QUARTER_WEEKS=13 HF_TEST_STARTS=anew $(BIN)/python -m pytest -q hf_pipelines_tests/test_quarter.py

# Every fault that the pipeline was tried with, as a table: make faults WORDS="postgres S3"
WORDS ?=
faults: $(DEV_STAMP)
	HF_TEST_STARTS=anew $(BIN)/python -m hf_pipelines_tests.fault_table $(WORDS)

# What the rules on bars catch of planted faults, and how often they ring on real bars: docs/operate/quality.md.
quality: $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.quality_scorecard

# What cross-validation finds in noise: every learner, splitter and step of preprocessing in pairs; which planted signals each
# learner finds; and every splitter with the learners of the shipped strategies, which takes 16 of the 25 minutes of a processor.
noise: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m hf_pipelines_tests.learner_noise
	OMP_NUM_THREADS=1 $(BIN)/python -m hf_pipelines_tests.learner_signals
	$(BIN)/python -m hf_pipelines_tests.noise_table

# How often tests of significance find something in noise, and what they find where it is, over 1,000 draws each.
significance: $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.significance_table

# How often the controls of a week call it by mistake, and how often they find what is planted: 12 minutes of a processor.
controls: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m hf_pipelines_tests.controls_table

# How often a rollout gives all capital to a challenger that is worse, and to one that is better: docs/concepts/rollout.md.
rollouts: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m hf_pipelines_tests.rollout_table

# How often drift is called in stationary series, and what is found of a planted shift, on HF_DRIFT_DAYS days, default 500: docs/concepts/drift.md.
drift: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m hf_pipelines_tests.drift_table

# Live quarters with known faults through the asset `drift`: HF_DRIFT_SEEDS of them, default 20.
drift-quarters: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m hf_pipelines_tests.drift_quarters

# What the count of trials is for: the best of 3,000 that know nothing, all of 1,000, one that knows something, and fifty through the
# real assets: 6 minutes.
demonstrations: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q hf_pipelines_tests/research/overfitting/test_demonstrations.py \
		hf_pipelines_tests/components/test_noise_through_assets.py

# Every learner on the demo's market: the tables of docs/guides/choosing-a-learner.md.
learners: demo $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.learner_table

# 8 processes write 500 records each into one ledger, three are killed on the way: none is lost, none is there twice.
ledger: $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.resources.trial_ledger.trying

# A Ray cluster of two nodes on this machine, one of which is killed in the middle of a study: the same bits as one loop. Nightly.
ray: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m long hf_pipelines_tests/resources/fan_out

# 200 random scenarios by every engine, and faults planted in each of them: docs/guides/engines.md.
engines: $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.research.backtest.engine_scenarios

lint: $(DEV_STAMP)
	$(BIN)/ruff check hf_pipelines hf_pipelines_tests benchmarks
	$(BIN)/ruff format --check hf_pipelines hf_pipelines_tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check yaml
	$(BIN)/dg check defs

# The site, in docs/_build/html; a warning, such as a link that leads nowhere, is an error. What has not changed is kept.
docs: $(DEV_STAMP)
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html

# The compiled code that a fresh clone lacks, before tests start that would each compile it.
kernels: $(DEV_STAMP)
	@$(BIN)/python -m hf_pipelines_tests.kernels

# The wheel in an empty environment: a project of its own is made, its demo and its tests run.
wheel-project: $(DEV_STAMP)
	$(BIN)/python -m hf_pipelines_tests.wheel_project

ui: demo
	$(BIN)/hfp ui

stack: $(DEV_STAMP)
	$(BIN)/hfp stack

bench: $(DEV_STAMP)
	@for script in benchmarks/bench_*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done
	PYTHONPATH=. $(BIN)/python benchmarks/bench_engine.py --minutes

# Weeks of arrivals with restarts, broken and duplicate files, against the same without faults: make soak WEEKS=52 SEED=3
WEEKS ?= 52
SEED ?= 0
soak: $(DEV_STAMP)
	HF_TEST_STARTS=anew $(BIN)/python -m hf_pipelines_tests.soak --weeks $(WEEKS) --seed $(SEED)

$(STAMP): pyproject.toml constraints.txt overrides.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "hf_pipelines needs Python 3.11, no $(PYTHON) was found; install it or run: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v[:2] == (3, 11) else "hf_pipelines needs Python 3.11, %s is %d.%d; run: make PYTHON=/path/to/python3.11" % (sys.executable, v[0], v[1]))'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PLAIN_INSTALL) uv
	$(INSTALL) --torch-backend cpu torch 2>/dev/null || $(PLAIN_INSTALL) torch
	$(INSTALL) --editable '.[all]' || $(PLAIN_INSTALL) --editable '.[all]'
	@touch $(STAMP)

# What tests, checks and benchmarks need besides.
$(DEV_STAMP): $(STAMP)
	$(INSTALL) --editable '.[dev]' || $(PLAIN_INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps pyqlib || $(PLAIN_INSTALL) --no-deps pyqlib
	@touch $(DEV_STAMP)

clean:
	rm -rf $(VENV) data
