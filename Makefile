# make demo   the whole path on real video, in about ten minutes on two CPU cores
# make test   the tests, in less than ten minutes on two CPU cores
# make test-slow   the tests of ten seconds and more, which `make test` leaves out
# make lint   ruff and mypy
# make docs   these pages as a site, in site/; a warning is an error
# make wheel-check   only the test that installs the wheel into an environment of its own, without torch
# make lock   renew requirements.lock from pyproject.toml (needs uv)

SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := resolution=demo

# one line that moves on while pip works
INSTALLING = awk -v all="$$(grep -c '^[a-z].*==' requirements.lock)" ' \
	/^Collecting|already satisfied/ { printf "\r\033[Kfetching package %d of about %d: %s", ++n, all, $$2; fflush() } \
	/^Installing collected/ { printf "\r\033[K%d packages fetched, now unpacking them: two minutes or so", n; fflush() } \
	END { printf "\r\033[K" }'

.PHONY: demo test test-slow wheel-check lint docs lock clean

$(VENV)/.installed: requirements.lock pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit("dvcc needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), once: about 6 GB, four minutes where the network is fast"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock | $(INSTALLING)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Small pictures keep no more than four threads busy. Threads that wait by spinning take a core from what else runs.
demo: export OMP_NUM_THREADS := $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
demo: export OMP_WAIT_POLICY := PASSIVE
demo: $(VENV)/.installed
	$(BIN)/dvcc compare examples/street.mp4 --target-kbps 60 --task detection --controller objects --model nanodet_plus --out runs/demo/compare
	rm -f runs/demo/evaluation/index.html # of an earlier demo
	$(BIN)/python examples/demo_page.py
	$(BIN)/python train.py surrogate $(DEMO) trainer.max_steps=60 out=runs/demo/surrogate overwrite=true
	$(BIN)/python train.py control task=segmentation $(DEMO) \
		surrogate=runs/demo/surrogate/surrogate.safetensors out=runs/demo/control overwrite=true
	$(BIN)/python evaluate.py control task=segmentation $(DEMO) data.shots=true \
		checkpoint=runs/demo/control/control.onnx controllers=[abr2,abr2_twice,learned] num_targets=4 out=runs/demo/evaluation
	$(BIN)/python examples/demo_page.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

wheel-check: $(VENV)/.installed
	$(BIN)/python -m pytest -n 0 tests/test_wheel.py

lint: $(VENV)/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy dvcc

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

lock:
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes -c constraints.txt -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) runs site
