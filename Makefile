# make run                                                   the main job on the simulated log
# make run CONF=conf/globo.yaml DATA=../data/globo           the same on a real one, in work/globo
# make bench-quality ML100K=../data/ml-100k                  AUC beside torch-rechub's models; also GLOBO=, MIND=
CONF      ?= conf/simulated.yaml
DATA      ?=
# A log has a workspace of its own.
WORKSPACE ?= $(if $(filter conf/simulated.yaml,$(CONF)),workspace,work/$(basename $(notdir $(CONF))))
GLOBO     ?=
ML100K    ?=
MIND      ?=
PYTHON    ?= $(shell for name in python3.11 python3.12 python3.13 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)
VENV      ?= .venv

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: setup run test test-airflow test-browser test-chaos test-extras test-pythons test-serving test-wheel check docs docs-serve
.PHONY: results-pages format bench bench-quality clean
.DEFAULT_GOAL := run

setup: $(STAMP)

# torch goes first and by its exact version: asked for without one, pip may take a CUDA build of several gigabytes.
$(STAMP): pyproject.toml setup.py constraints.txt
	@echo "installing into $(VENV): some minutes, 2.5 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

run: $(STAMP)
	$(BIN)/ctr-kd run $(CONF) --workspace $(WORKSPACE) $(if $(DATA),--data $(DATA))

# Two processes with one thread each are faster than one with two: most tests are too small to share. The order is random, files of
# slow tests first; the head of the output says by which seed, and PYTEST_ADDOPTS=--randomly-seed=N brings it back. Bytecode is kept
# whatever the shell says, since tests start many processes.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 \
		--ignore=tests/browser --ignore=tests/chaos

# Airflow pins packages that MLflow wants in other versions, so it has an environment of its own, as it would have on a scheduler.
AIRFLOW := .venv-airflow/.installed

$(AIRFLOW): pyproject.toml setup.py constraints-airflow.txt
	test -x .venv-airflow/bin/python || $(PYTHON) -m venv .venv-airflow
	.venv-airflow/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-airflow.txt \
		apache-airflow apache-airflow-providers-standard pytest
	touch $@

test-airflow: $(STAMP) $(AIRFLOW)
	.venv-airflow/bin/python -m pytest tests/airflow

# What `make test` skips where an extra is absent: Spark, which wants a Java, tracking in PostgreSQL, which wants its programs,
# an object store on loopback, and tables of Delta Lake and Iceberg.
test-extras: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[spark,postgresql,system-metrics,object-storage-tests,delta,iceberg]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/feature_store/engines tests/pipelines/scoring/test_spark_executor.py \
		tests/pipelines/tracking tests/feature_store/readers/test_object_storage.py tests/feature_store/readers/test_lake_tables.py \
		tests/feature_store/readers/test_remote_log.py tests/pipelines/stages/test_ingest.py

# The pages as a browser shows them; `make test` leaves this out, because it wants Debian's Chromium.
test-browser: $(STAMP)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
		|| { echo "make test-browser needs Chromium: apt-get install chromium chromium-driver" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest tests/browser

# Faults at random moments on a busy machine: a hundred kills (KILLS=N), disks that fill, several of everything at once. It takes half an
# hour; the head of the output names the seed, and PYTEST_ADDOPTS=--randomly-seed=N draws the same again.
test-chaos: $(STAMP)
	OMP_NUM_THREADS=1 CTR_KD_KILLS=$(or $(KILLS),100) $(BIN)/python -m pytest -v -s --durations=10 tests/chaos

# The tests on every Python that is supported and installed here, each in an environment of its own. A version counts as installed where it
# runs: pyenv puts all that it knows on the PATH, and asks by PYENV_VERSION which is meant.
PYTHONS := 3.11 3.12 3.13

test-pythons:
	@tested= absent= failed=; \
	for version in $(PYTHONS); do \
		python="env PYENV_VERSION=$$version python$$version"; \
		if ! $$python -c '' 2>/dev/null; then absent="$$absent $$version"; continue; fi; \
		echo "== Python $$version, in .venv-$$version"; \
		$(MAKE) test VENV=.venv-$$version PYTHON="$$python" && tested="$$tested $$version" || failed="$$failed $$version"; \
	done; \
	echo "passed:$${tested:- none}; failed:$${failed:- none}; not installed here:$${absent:- none}"; \
	test -z "$$failed" -a -n "$$tested"

# Installs the wheel into an environment of its own, and runs the pipeline there, with a configuration that the wheel brings along.
test-wheel: $(STAMP)
	CTR_KD_TEST_WHEEL=1 $(BIN)/python -m pytest tests/test_wheel.py

# Installs the registered student's own requirements, and nothing else, into an environment of its own.
test-serving: $(STAMP)
	CTR_KD_TEST_SERVING=1 $(BIN)/python -m pytest tests/pipelines/registry/test_pyfunc_model.py

# The documentation, in site/; strictly: a link, an anchor or a reference that leads nowhere fails, and so does what a page would fetch.
DOCS := $(VENV)/.installed-docs

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean

docs-serve: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --livereload --dev-addr 127.0.0.1:8000

# The tables and commands of docs/results, from benchmarks/results and conf; `make test` fails where a page is not what they say.
results-pages: $(STAMP)
	$(BIN)/python -m docs._generate.results

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	@set -e; for benchmark in benchmarks/bench_*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

bench-quality: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python benchmarks/bench_quality.py --workspaces $(WORKSPACE) \
		$(if $(GLOBO),--globo $(GLOBO)) $(if $(ML100K),--ml100k $(ML100K)) $(if $(MIND),--mind $(MIND))

clean:
	rm -rf .venv .venv-* build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
