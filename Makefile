# Two commands on a fresh machine: `make demo` runs the main job offline, `make test` passes the
# tests. Each sets itself up in .venv first; nothing outside this folder is touched.

# The first that runs and is new enough: a name on the PATH may be a shim that does neither.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check sweep bench fix clean help

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

demo: .venv/train    ## the whole way offline: describe, generate, train, evaluate, export
	.venv/bin/understudy demo
	@echo "the command is .venv/bin/understudy; \`. .venv/bin/activate\` puts it on the PATH"

test: .venv/dev      ## the tests
	.venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: .venv/dev     ## format, lint, types, floors
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

sweep: .venv/dev     ## the long fault sweeps: 100 kills and more
	.venv/bin/pytest -m sweep --timeout 3600

bench: .venv/dev     ## measurements, each against a reference in the same run
	for script in $(filter-out bench/teacher.py,$(wildcard bench/*.py)); do \
		echo "$$script"; .venv/bin/python $$script || exit 1; done

fix: .venv/dev       ## format and mend what can be mended
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean:           ## remove the environment and what the tools left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache understudy-demo

# The base first, then the extras: each is a stamp that is renewed when its inputs change.
.venv/base: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || \
		{ echo "understudy needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x .venv/bin/python || { echo "setting up .venv"; "$(PYTHON)" -m venv .venv; }
	@$(PIP) --editable .
	@touch $@

.venv/train: .venv/base
	@echo "installing what training needs (once)"
	@$(PIP) --editable '.[train,practice]'
	@touch $@

.venv/dev: .venv/train .venv/openai-2
	@echo "installing what the checks need (once)"
	@$(PIP) --editable '.[train,qlora,hosted,serve,practice,parquet,dev]'
	@touch $@

# The generation of OpenAI's SDK before the one that is installed: the server answers both.
.venv/openai-2: .venv/train
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ \
		openai==2.54.0 httpx==0.28.1 httpcore==1.0.9 certifi distro
