# The commands of the project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := curriculum_ray tuning clusters tests examples benchmarks docs tune.py
# Where quick tests with Ray lie, which tests/conftest.py checks: to read all other files would take seconds.
RAY_TESTS := tests/distributed tests/tuning/test_main_job.py
# The rest in two processes, each of which imports what its own folders need.
UPPER_TESTS := tests/tuning tests/distributed tests/clusters tests/diffusion tests/docs
QUICK := -m "not ray and not slow" -p no:cacheprovider

.DEFAULT_GOAL := help
# Ray starts many processes, and each would compile the project's own modules again.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup search test test-ray test-upper test-lower test-all docs bench-startup bench-search bench-sampler bench-train bench-schedule bench-stream bench-driver bench-head bench-pack bench-share bench-evaluate bench-rank rehearsal gpu-check gallery noise-floor check-ladders check-evidence lint check-published lock clean bench-sampler-choice sampler-table

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 28

setup: $(STAMP) ## make the environment (.venv) from the pinned versions; quick when it stands

# Bytecode is compiled at install: every Ray worker imports torch, and without it each compiles it again. The packages
# are gigabytes: in a terminal, uv shows how far each is; elsewhere it stays silent, and a line says what is going on.
QUIET := $(shell test -t 2 || echo --quiet)
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, but $(PYTHON) is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing $$(grep -c == constraints.txt) packages into $(VENV): gigabytes, which takes minutes"
	$(BIN)/uv pip install $(QUIET) --python $(BIN)/python --compile-bytecode --require-hashes -r constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

search: setup ## the main job: find a schedule for the digits, on CPU, in minutes
	$(BIN)/python -m tune search

docs: setup ## the documentation as a site, in site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# Tests with Ray share one, and mostly wait: the others and the linters run meanwhile, on two cores.
test: setup ## lint, types, documentation and the fast tests
	@$(MAKE) --no-print-directory -j 4 lint test-ray test-upper test-lower

test-ray: setup
	$(BIN)/python -m pytest -m "ray and not slow" $(RAY_TESTS)

test-upper: setup
	$(BIN)/python -m pytest $(QUICK) $(UPPER_TESTS)

test-lower: setup
	$(BIN)/python -m pytest $(QUICK) $(addprefix --ignore=,$(UPPER_TESTS))

test-all: test ## every test: the fast ones, then the slow ones, an hour and a quarter or more on two cores
	$(BIN)/python -m pytest -m slow --durations=0 --durations-min=60

bench-search: setup ## fixed cost of a further trial, beside the plain Ray pattern
	$(BIN)/python benchmarks/bench_search.py

bench-startup: setup ## how long a person waits for the first step of search and train, and for best
	$(BIN)/python benchmarks/bench_startup.py

bench-sampler: setup ## what the sampler costs beside a training step
	$(BIN)/python benchmarks/bench_sampler.py

bench-train: setup ## speed of the training loop beside a bare step and beside diffusers
	$(BIN)/python benchmarks/bench_train.py

bench-compile: setup ## how long a DiT takes to compile, as a whole and by its blocks
	$(BIN)/python benchmarks/bench_compile.py

bench-head: setup ## memory that a slot costs the driver's node
	$(BIN)/python benchmarks/bench_head.py

bench-driver: setup ## what a trial costs the driver of a long study
	$(BIN)/python benchmarks/bench_driver.py

bench-schedule: setup ## the shared schedule under 8 to 10,000 simulated ranks
	$(BIN)/python benchmarks/bench_schedule.py

bench-stream: setup ## memory and speed of a worker that trains through 10 GB of shards
	$(BIN)/python benchmarks/bench_stream.py

bench-pack: setup ## K runs as one ensemble beside K runs on their own
	$(BIN)/python benchmarks/bench_pack.py

bench-share: setup ## what a device gives in all to small runs: processes, packs, and packs in several processes
	$(BIN)/python benchmarks/bench_share.py

bench-evaluate: setup ## an evaluation on one worker beside two, and its memory at 2,000 and 50,000 samples
	$(BIN)/python benchmarks/bench_evaluate.py

bench-rank: setup ## how well the held-out loss at a quarter of the budget ranks the final FID
	$(BIN)/python benchmarks/rank_by_map.py

bench-sampler-choice: setup ## which sampler, budget rule and race find a good schedule soonest, on a table
	$(BIN)/python benchmarks/bench_sampler_choice.py

sampler-table: setup ## go on with that table up to 200 schedules, hours on one core; resumes where it was stopped
	$(BIN)/python benchmarks/sampler_table.py --schedules 200

rehearsal: setup ## what a lab runs, on a cluster with real servers, and disturbed on the way: half an hour or more
	$(BIN)/python benchmarks/rehearse.py

gpu-check: setup ## everything that needs a GPU: its tests, speeds and a search, in under nine minutes
	$(BIN)/python benchmarks/gpu_check.py

gallery: setup ## a picture of generated items for each process and data set, in gallery/
	$(BIN)/python benchmarks/gallery.py

noise-floor: setup ## how much the metric varies on its own
	$(BIN)/python benchmarks/metric_noise_floor.py

check-ladders: setup ## whether schedules of the shipped spaces walk all of their stages
	$(BIN)/python benchmarks/check_ladders.py

check-evidence: setup ## how often a study names a false winner, or misses a true one
	$(BIN)/python benchmarks/check_evidence.py

check-published: setup ## every published formula beside an independent computation of it
	$(BIN)/python benchmarks/check_published.py

lint: setup ## ruff and mypy
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy

lock: ## resolve constraints.txt anew from pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  -o constraints.txt pyproject.toml

clean: ## remove the environment and all caches, but no results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build site *.egg-info
