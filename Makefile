# Every verb sets up what it needs; nothing but Python 3.11 or newer is expected.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NATIVE := $(VENV)/.native
# Most system tests wait for processes of theirs: four at once keep two cores busy. A file's tests stay together.
TESTS_AT_ONCE ?= 4
SIDE_BY_SIDE := -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder
# The files with long tests come first, so that no worker is left alone with one at the end.
ALL_TESTS := tests/system tests/parity tests/unit
# The tests of the code that a compiled core replaces or that calls it (ingest/core.py), and one of the whole.
TWIN := tests/system/ingest/test_corpus.py $(addprefix tests/unit/,ingest processes/worker \
	processes/consumer/test_messages.py ipc/test_batch_builder.py ipc/test_shared_memory.py \
	inputs/session inputs/test_frames.py inputs/test_runs.py inputs/test_state.py \
	$(addprefix inputs/pickles/test_,decode.py hostile.py opcodes.py trim.py unpickle.py values.py) \
	records/test_render.py records/test_stored.py)

.PHONY: cluster run test test-fast check bench torture torture-short torture-hostile torture-features fuzz wheels clean

run: $(NATIVE)  ## collect on 127.0.0.1:9020 into .run/records.jsonl, until Ctrl-C
	$(BIN)/prefork-logd run --state-dir .run

test: $(NATIVE)  ## the whole test suite; what a core has a part in once more without the compiled one
	$(BIN)/python -m tests.support.alone $(SIDE_BY_SIDE) $(ALL_TESTS)
	PREFORK_LOGD_NATIVE=0 $(BIN)/python -m tests.support.alone -q $(SIDE_BY_SIDE) $(TWIN)

test-fast: $(NATIVE)  ## the unit tests that start no process and read no corpus, in a minute or two
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" tests/unit

check: $(READY)  ## lint, formatting, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_imports.py

bench: $(NATIVE)  ## every benchmark, short
	$(BIN)/python benchmarks

torture: $(NATIVE)  ## kill, stop and rename things for ten minutes, and count every record
	$(BIN)/python -m tests.torture.processes --iterations 60 --seconds 8

torture-short: $(READY)  ## ten thousand short iterations of it, for about an hour; see torture.summary.json
	$(BIN)/python -m tests.torture.processes --short --iterations 10000 --jobs 4 --log torture.log

torture-hostile: $(NATIVE)  ## hostile clients beside honest ones, with kills, full disks and clock steps, for an hour
	$(BIN)/python -m tests.torture.hostile --rounds 450 --seconds 6

torture-features: $(NATIVE)  ## every feature on: TLS, limits, sampling, stores, groups, alerts; for twenty minutes
	$(BIN)/python -m tests.torture.features --iterations 50

fuzz: $(READY)  ## look for inputs that harm the compiled core, for a minute, under sanitizers; needs clang
	$(BIN)/python -m fuzz --seconds 60

cluster: $(READY)  ## NATS servers, edges and central collectors killed, cut and set back for a while; every record counted
	$(BIN)/python -m tests.torture.cluster --rounds 3

wheels: $(READY)  ## sdist, the wheel for every Python, one with the compiled core for each CPython found here; each tried
	$(BIN)/python -m tests.support.wheels dist

clean:  ## what the verbs above have made
	rm -rf $(VENV) .run build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f prefork_logd/ingest/_core_c.*.so prefork_logd/stores/_rows_c.*.so prefork_logd/journal/_crc.*.so

# The core is compiled below, not here, and Python compiles the few modules that are imported of what is installed.
$(READY): setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	PREFORK_LOGD_NATIVE=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev]'
	touch $@

# Without a compiler this leaves everything as it is: the package works without the core.
$(NATIVE): $(READY) $(wildcard $(foreach room,ingest stores journal,prefork_logd/$(room)/*.pyx prefork_logd/$(room)/*_c/*.pxi))
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@
