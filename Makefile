# `make` alone lists what there is. Nothing needs installing first except make and Python 3.11 or newer.
# PYTHON=/path/to/python chooses the Python; ARGS="..." goes to the command that a target runs.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help report test test-browser test-slow test-engines lint bench lab notebooks sample hooks clean

export PYTHON
bin := .venv/bin
python := $(bin)/python
pytest := $(python) -m pytest
# JupyterLab asks its makers for news and newer versions unless told not to.
offline := --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
notebooks := $(wildcard notebooks/*.ipynb notebooks/training/*.ipynb)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

report: .venv/.has-run ## write the sample company's report into reports/ and say where index.html lies
	@$(bin)/opslib report $(ARGS)

test: .venv/.has-test ## run the fast tests, and check the numbers in the committed notebooks
	@$(pytest) -n 2 --dist loadfile $(if $(notebooks),--nbval --nbval-current-env) tests $(notebooks) $(ARGS)

test-browser: .venv/.has-test ## open the report in Chromium with the network cut
	@.ci/install-chromium
	@$(pytest) -m browser tests $(ARGS)

test-slow: .venv/.has-test ## run the tests that take minutes
	@$(pytest) -n 2 --dist loadfile -m "slow and not engines" tests $(ARGS)

test-engines: .venv/.has-test .venv/.has-postgres .venv/.has-spark ## ask Postgres, Spark and the embedded engine the same
	@.ci/install-engines
	@$(pytest) -n 2 --dist loadfile -m "engines and not slow" tests $(ARGS)

lint: .venv/.has-test ## check style, types, layers, notebooks, and that no secret or big file is committed
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@$(bin)/lint-imports
	@$(python) -m opslib.run.notebooks --check
	@$(python) .ci/check_files.py

bench: .venv/.has-bench ## time the report and the measures against their peers
	@$(python) -m benchmarks $(ARGS)

lab: .venv/.has-run .venv/.has-no-news ## open JupyterLab on the first notebook
	@$(bin)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(offline) notebooks/00_start_here.ipynb $(ARGS)

notebooks: .venv/.has-run ## run the committed notebooks again on the sample company and store their results
	@$(python) -m opslib.run.notebooks $(ARGS)

sample: .venv/.has-run ## make the sample company's tables again
	@$(bin)/opslib sample --out data/samples $(ARGS)

hooks: .venv/.has-test ## check every commit before it is made
	@$(bin)/pre-commit install

clean: ## remove .venv and caches (reports/ and data/ stay)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist benchmarks/.work
	find opslib tests benchmarks notebooks -name __pycache__ -prune -o -name .ipynb_checkpoints -prune | xargs rm -rf

# What is installed, one stamp for each set: .has-run (the package alone), .has-test, .has-bench and so on (that extra too).
.venv/.has-%: pyproject.toml constraints.txt
	@.ci/install $(filter-out run,$*)

# Once: it takes seconds, and JupyterLab would ask everybody whether they want its news.
.venv/.has-no-news: .venv/.has-run
	@$(bin)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements >/dev/null 2>&1
	@touch $@
