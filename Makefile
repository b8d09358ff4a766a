# make demo: ingest, train and predict on all five kinds of data.   make test: every test.
.PHONY: setup demo test test-models test-rest lint bench chaos clean
.DEFAULT_GOAL := demo

READY := .venv/.ready
BIN := .venv/bin
DATA ?=
# Tests under which every shape and type that a signature of models/ names is checked at run time.
SHAPED := $(addprefix tests/models/,channels heads layers merges mixers norms objectives positions scores stems \
	presets/test_contract.py test_build.py test_model.py)

setup: $(READY)

$(READY): pyproject.toml constraints.txt infra/setup.sh
	./infra/setup.sh
	@touch $@

demo: $(READY)
	$(BIN)/python -m jobs.demo --output demo $(if $(DATA),--data $(DATA))

# Two halves side by side: models and codecs keep one core busy while what starts Ray mostly waits.
test: $(READY)
	OMP_NUM_THREADS=1 $(MAKE) --jobs=2 --output-sync=target test-models test-rest

test-models: $(READY)
	$(BIN)/python -m pytest tests/models tests/modalities
	$(BIN)/python -m pytest $(SHAPED) --jaxtyping-packages=models,beartype.beartype -m "not compile"

test-rest: $(READY)
	$(BIN)/python -m pytest --ignore=tests/models --ignore=tests/modalities

# Ratios beside peers and limits, in one run; numbers of earlier runs are in docs/benchmarks.
bench: $(READY)
	$(BIN)/python -m jobs.bench.plan 1000000
	$(BIN)/python -m jobs.bench.again 10000 10
	$(BIN)/python -m jobs.bench.duplicates 100000
	for files in "jpeg 20000" "laz 6000" "geotiff 4000" "h264 4000"; do $(BIN)/python -m jobs.bench.ingest $$files || exit; done
	$(BIN)/python -m jobs.bench.ingest memory 10000 100000
	$(BIN)/python -m jobs.bench.check
	$(BIN)/python -m jobs.bench.near $(DATA)
	$(if $(DATA),$(BIN)/python -m jobs.bench.keyframes $(DATA)/video)
	OMP_NUM_THREADS=1 $(BIN)/python -m jobs.bench.sandbox
	$(BIN)/python -m jobs.bench.loader
	$(BIN)/python -m jobs.bench.training
	$(BIN)/python -m jobs.bench.kills
	$(BIN)/python -m jobs.cli zoo bench

# What `make test` does in a minute, for an hour: crashes at every operation, real kills, faults on the wire.
chaos: $(READY)
	RAYLOOM_CHAOS=1 $(BIN)/python -m pytest tests/jobs/chaos tests/jobs/test_elastic.py tests/jobs/test_cluster.py
	$(BIN)/python -m jobs.chaos.simulation --schedules 100000
	$(BIN)/python -m jobs.chaos.kills --points 50
	$(BIN)/python -m jobs.chaos.nodes --points 8

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf demo .mypy_cache .ruff_cache .pytest_cache
