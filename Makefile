# Everything a newcomer types. `make demo` and `make test` do all set-up themselves.
#
#   TORCH=cpu|cu128|…   choose a build of PyTorch      make demo TORCH=cpu
#   PYTHON=python3.12   choose an interpreter
#   VENV=.venv-3.12     keep it elsewhere
#   TESTS=tests/data    run a part of the tests

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := nequip,mace,allegro,graph-pes,xtb,slurm,joblib,postgres,schedulefree,torch-sim,test

# uv does not read pip's settings: hand it the folder of wheels that pip was told of, if any.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
# Imports are half of what a short command takes, and twice that where Python is told to write no bytecode.
export UV_COMPILE_BYTECODE ?= 1
# One thread a process: small graphs gain nothing from more, and busy threads wait for one another.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test check format ui endurance peers lock clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 11

setup: $(VENV)/ready ## make .venv with all that demo and test need

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.5"
	$(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH),--torch-backend $(TORCH)) \
		--constraints constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: setup ## eight small runs, measured and compared
	$(BIN)/mlip-sweep --config-name=quickstart hydra.launcher.n_jobs=2 trainer.progress=false
	@echo; echo "Browse the runs: make ui"

test: setup ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

check: setup ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## put the code in its shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup ## the MLflow UI on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --default-artifact-root mlartifacts

endurance: setup ## a trial of minutes: TRIAL=kills, workers, slurm or images
	$(BIN)/python tests/endurance/$(or $(TRIAL),kills).py

peers: setup ## what the benchmarks compare with; then python benchmarks/NAME.py
	$(BIN)/uv pip install --python $(BIN)/python --constraints constraints.txt --editable '.[$(EXTRAS),peers]'

lock: setup ## write constraints.txt from what is installed
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable \
		| grep -viE '^(torch|triton|nvidia[a-z0-9-]*|uv)(==| @)' > constraints.txt

clean: ## remove .venv and caches, not the recorded runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
