# Everything runs in .venv and .local; nothing is installed outside this folder but Maven's own cache.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
DAYS ?= 1
# Without Python's caches every start compiles the code anew, and pytest its plugins in each of three processes.
unexport PYTHONDONTWRITEBYTECODE
# An environment whose Python was removed, or replaced by an upgrade, is made anew.
_ := $(shell [ ! -L $(BIN)/python ] || $(BIN)/python -c '' 2>/dev/null || rm -rf .venv)
UNREACHED := echo "The Python environment could not be made; the reason stands above. When it is the network: check it, or \
say where to go by HTTPS_PROXY, or by PIP_INDEX_URL and UV_DEFAULT_INDEX for a registry of your own. When the disk is full: free \
some space. Then run make again." >&2; exit 1

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

demo: .venv/local.stamp ## the pipeline on this laptop: deploy, one day of data, every hop counted (DAYS=3 for more)
	@$(BIN)/python -m local demo --days $(DAYS)

test: .venv/dev.stamp ## the test suite
	@$(BIN)/pytest -n 2 -m "not scenario"

test-scenarios: .venv/dev.stamp ## the slow scenarios
	@$(BIN)/pytest -n 2 -m scenario

bench: .venv/dev.stamp ## measure against plain tools, into .local/bench.json
	@$(BIN)/python -m tests.bench

up: .venv/local.stamp ## start the laptop stack with its schedules and leave it running
	@$(BIN)/python -m local up

down: ## stop it
	@$(BIN)/python -m local down

lint: .venv/dev.stamp ## format, lint, types, YAML, SQL
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint .
	$(BIN)/sqlfluff lint --processes 2 snowflake dbt

audit: .venv/dev.stamp .venv/audit.stamp ## known vulnerabilities of every pinned package (asks PyPI), and unsafe code
	$(BIN)/ruff check --select S --ignore S101 .
	@for name in uv runtime local dev audit; do echo "pip-audit requirements/$$name.txt"; \
	  $(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/$$name.txt || exit 1; done

docs: .venv/local.stamp ## dbt's pages in docs/site/index.html, and what is generated in docs/*.md
	@$(BIN)/python -m dbt_dev.docs

clean: ## remove the state of the laptop stack and what was built
	@if $(BIN)/python -c 'import local.__main__' 2>/dev/null; then $(BIN)/python -m local clean; else rm -rf .local; fi
	rm -rf .venv local/kestra/target docs/site

lock: .venv/uv.stamp ## resolve requirements/*.in anew into pinned, hashed files
	cd requirements && for name in uv runtime "local -c runtime.txt" "dev -c local.txt" "audit -c dev.txt"; do set -- $$name; \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links $$1.in $${2:+$$2 $$3} -o $$1.txt; done

.venv/uv.stamp: requirements/uv.txt
	@python=""; for each in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  if $$each -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then python=$$each; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "This needs Python 3.11, 3.12 or 3.13 with venv: install one, or say where: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; fi; \
	echo "Python environment in .venv (the first time takes a minute)"; \
	{ $$python -m venv .venv && $(BIN)/pip install --quiet --require-hashes -r requirements/uv.txt; } || { $(UNREACHED); }
	@touch $@

.venv/%.stamp: requirements/%.txt .venv/uv.stamp
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $< || { $(UNREACHED); }
	@touch $@

.PHONY: help demo test test-scenarios bench up down lint audit docs clean lock
.SECONDARY:
