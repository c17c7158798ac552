# `make help` lists the targets and their variables. READS_x names the variables that target x reads, besides
# PYTHON and GPU; any other variable on the command line is refused at the end of this file.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN_PYTHON := $(VENV)/bin/python
CIFAR_MODELS := $(RUN_PYTHON) -m cifar_models
SHOW := set -x; exec
REQUIREMENTS := requirements$(if $(GPU),-gpu).txt
INSTALLED := $(VENV)/installed$(if $(GPU),-gpu)

# Variables given to make by the user, before `override` below hides where they come from.
override GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))

# Targets read values from the environment ("$$RUN"), as typed: spaces, quotes and dollar signs are safe. They print the
# command (set -x) and replace the shell with it (exec), so that it receives the signals of make.
VALUES := RECIPE DATASET DATA_DIR RUN OUT SEED EPOCHS BATCH_SIZE TRIALS BUDGET_SECONDS WORKERS PORT
$(foreach name,$(VALUES) ARGS,$(eval override $(name) := $$(value $(name))))
export $(VALUES)

DATA_DIR_OPTION := $${DATA_DIR:+--data-dir "$$DATA_DIR"}
DATA_OPTIONS := $${DATASET:+--dataset "$$DATASET"} $(DATA_DIR_OPTION)
BATCH_OPTION := $${BATCH_SIZE:+--set "training.batch_size=$$BATCH_SIZE"}
RECIPE_OPTIONS := $(DATA_OPTIONS) $${SEED:+--seed "$$SEED"} \
	$${EPOCHS:+--set "training.epochs=$$EPOCHS"} $(BATCH_OPTION)
RUN_OPTION := $${RUN:+--run "$$RUN"}
OUT_OPTION := $${OUT:+--out "$$OUT"}
# RUN is one path if it exists as a whole; otherwise it is a list of paths and wildcards.
SPLIT_RUN := if [ -e "$$RUN" ]; then runs=("$$RUN"); else runs=($$RUN); fi

READS_help :=
help: ## list the targets and their variables
	@awk '/^READS_/ {sub(/^READS_[^=]*=/, ""); gsub(/[A-Z_]+/, "&="); reads = $$0} \
		/^[a-z-]+:.*## / {split($$0, part, /:.*## /); printf "%-13s%s\n", part[1], part[2]; \
		if (reads ~ /^ [A-Z]/) printf "%12s%s\n", "", reads}' Makefile
	@printf '%s\n' '' \
		'RECIPE      a name from `python -m cifar_models list recipes`, or a TOML file; for study, a name from' \
		'            experiments/studies/, or a TOML file' \
		'DATASET     digits, folder:PATH, folder:TABLE.csv, or a data set of TensorFlow Datasets (kept in DATA_DIR)' \
		'RUN         a run folder; compare, benchmark and serve accept several, "runs/a runs/b" or "runs/cnn-*": if the' \
		'            whole value is an existing path, it is one run, even if it contains spaces' \
		'OUT         where the result is written' \
		'ARGS        more options of the command, quoted as in the shell: ARGS="--set training.ema_decay=0.999"' \
		'PYTHON GPU  for every target that needs .venv: the interpreter; GPU=1 installs the CUDA libraries' \
		'' 'Defaults are in parentheses. A variable that the target does not read is an error. Variables of the' \
		'environment replace the defaults.'

READS_setup :=
setup: $(INSTALLED) ## create .venv and install requirements.txt, whose hashes are verified (GPU=1: with CUDA)

$(INSTALLED): $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)
	touch $@

COMPILE := UV_CUSTOM_COMPILE_COMMAND="make requirements" $(VENV)/bin/uv pip compile pyproject.toml --quiet \
	--extra dev --extra onnx --extra litert --extra openvino --extra labels --extra serve --extra ray --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links
READS_requirements := ARGS
requirements: setup ## renew the pins and hashes after a change of pyproject.toml (ARGS=--upgrade: newest versions)
	$(COMPILE) $(ARGS) --output-file requirements.txt
	$(COMPILE) $(ARGS) --output-file requirements-gpu.txt --extra gpu --constraint requirements.txt

READS_demo :=
demo: setup ## train a CNN, a ViT and a hybrid on the bundled digits, and list their results
	@set -e; folder=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	for model in cnn vit hybrid; do \
		$(CIFAR_MODELS) train digits-$$model --run $$folder/$$model; \
	done; \
	$(CIFAR_MODELS) list runs --under $$folder

READS_train := RECIPE DATASET DATA_DIR RUN SEED EPOCHS BATCH_SIZE ARGS
NEEDS_train := RECIPE
train: setup ## train a recipe
	@$(SHOW) $(CIFAR_MODELS) train "$$RECIPE" $(RECIPE_OPTIONS) $(RUN_OPTION) $(ARGS)

READS_train-cnn := RECIPE DATASET DATA_DIR RUN SEED EPOCHS BATCH_SIZE ARGS
train-cnn: setup ## train the CNN, or the recipe in RECIPE
READS_train-vit := $(READS_train-cnn)
train-vit: setup ## train the Vision Transformer; without a GPU, vit-laptop (same variables as train-cnn)
READS_train-hybrid := $(READS_train-cnn)
train-hybrid: setup ## train the hybrid; without a GPU, hybrid-laptop (same variables as train-cnn)
# The recipes vit and hybrid need a GPU. The digits have recipes of their own, and cnn trains anywhere.
HAS_GPU := $(GPU)$(wildcard /dev/nvidiactl /dev/dxg)
train-cnn train-vit train-hybrid: train-%:
	@recipe="$${RECIPE:-$*}"; \
	if [ -z "$${RECIPE}$(HAS_GPU)" ] && [ "$$DATASET" != digits ] && [ $* != cnn ]; then \
		recipe=$*-laptop; \
		echo "no GPU found: training $$recipe; RECIPE=$* trains the recipe for a GPU"; \
	fi; \
	$(SHOW) $(CIFAR_MODELS) train "$$recipe" $(RECIPE_OPTIONS) $(RUN_OPTION) $(ARGS)

READS_resume := RUN DATASET DATA_DIR ARGS
NEEDS_resume := RUN
resume: setup ## continue a run that was stopped or killed
	@$(SHOW) $(CIFAR_MODELS) resume "$$RUN" $(DATA_OPTIONS) $(ARGS)

READS_tune := RECIPE DATASET DATA_DIR TRIALS BUDGET_SECONDS SEED EPOCHS BATCH_SIZE OUT RUN ARGS
tune: setup ## search the ranges of RECIPE (cnn), and write best.toml to OUT or RUN (runs/tune-RECIPE)
	@recipe=$${RECIPE:-cnn}; name=$$(basename "$$recipe" .toml)$${DATASET:+-$${DATASET//[:\/]/-}}; \
	$(SHOW) $(CIFAR_MODELS) tune "$$recipe" $(RECIPE_OPTIONS) $${TRIALS:+--trials "$$TRIALS"} \
		$${BUDGET_SECONDS:+--budget-seconds "$$BUDGET_SECONDS"} \
		--out "$${OUT:-$${RUN:-runs/tune-$$name}}" $(ARGS)

READS_tune-cluster := RECIPE DATASET DATA_DIR TRIALS WORKERS PORT SEED EPOCHS BATCH_SIZE OUT RUN ARGS
tune-cluster: setup ## tune with KerasTuner's own chief, and WORKERS (2) workers on this machine
	@recipe=$${RECIPE:-cnn}; name=$$(basename "$$recipe" .toml)$${DATASET:+-$${DATASET//[:\/]/-}}; \
	export KERASTUNER_ORACLE_IP=127.0.0.1 KERASTUNER_ORACLE_PORT=$${PORT:-8765}; \
	tune() { \
		KERASTUNER_TUNER_ID=$$1 exec $(CIFAR_MODELS) tune "$$recipe" $(RECIPE_OPTIONS) \
			$${TRIALS:+--trials "$$TRIALS"} --out "$${OUT:-$${RUN:-runs/tune-$$name}}" $(ARGS); \
	}; \
	trap 'kill $$(jobs -p) 2> /dev/null' EXIT; \
	for number in $$(seq "$${WORKERS:-2}"); do tune worker$$number & pids+=" $$!"; done; tune chief & pids+=" $$!"; \
	for pid in $$pids; do wait $$pid || exit; done

READS_compare := RUN OUT ARGS
NEEDS_compare := RUN
compare: setup ## compare finished runs, and write a report to OUT (runs/comparison)
	@$(SPLIT_RUN); $(SHOW) $(CIFAR_MODELS) compare "$${runs[@]}" --out "$${OUT:-runs/comparison}" $(ARGS)

READS_study := RECIPE OUT ARGS
study: setup ## train the missing runs of the study RECIPE (digits), and compare all of them
	@$(SHOW) $(CIFAR_MODELS) study "$${RECIPE:-digits}" $(OUT_OPTION) $(ARGS)

READS_results :=
results: setup ## write the tables of results and the figure in README.md and docs/ from experiments/records/
	$(RUN_PYTHON) -m experiments.results_table

READS_export := RUN OUT DATASET DATA_DIR ARGS
NEEDS_export := RUN
export: setup ## write the model of a finished run to OUT (RUN/export), as a SavedModel or with ARGS="--format onnx"
	@$(SHOW) $(CIFAR_MODELS) export "$$RUN" $(OUT_OPTION) $(DATA_OPTIONS) $(ARGS)

READS_serve := RUN ARGS
NEEDS_serve := RUN
serve: setup ## classify pictures in the browser with finished runs or exports, at http://localhost:8000
	@$(SPLIT_RUN); $(SHOW) $(CIFAR_MODELS) serve "$${runs[@]}" $(ARGS)

READS_tensorboard := RUN ARGS
tensorboard: setup ## show every run under RUN (runs) at http://localhost:6006
	@$(SHOW) $(VENV)/bin/tensorboard --logdir "$${RUN:-runs}" $(ARGS)

READS_benchmark := RUN RECIPE DATASET DATA_DIR BATCH_SIZE ARGS
benchmark: setup ## measure the serving cost of finished runs, or the training speed of RECIPE (cnn)
	@$(SPLIT_RUN); [ "$$RUN$$RECIPE" ] || RECIPE=cnn; \
	$(SHOW) $(CIFAR_MODELS) benchmark "$${runs[@]}" $${RECIPE:+"$$RECIPE"} $(DATA_OPTIONS) $(BATCH_OPTION) $(ARGS)

READS_notebook :=
notebook: setup ## run the notebooks in place, a few minutes on two cores
	$(VENV)/bin/jupyter execute --inplace notebooks/*.ipynb

READS_lint :=
lint: setup ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

READS_test := ARGS
test: setup ## run the tests, under 6 minutes on two cores
	$(RUN_PYTHON) -m pytest -m 'not slow and not gpu' $(ARGS)

READS_test-slow := ARGS
test-slow: setup ## run every test
	$(RUN_PYTHON) -m pytest $(ARGS)

READS_check := ARGS
check: lint test ## what a commit must pass

READS_clean :=
clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: $(patsubst READS_%,%,$(filter READS_%,$(.VARIABLES)))

# Refuse variables that no chosen target reads, and missing ones, before anything runs.
override GOALS := $(foreach goal,$(or $(MAKECMDGOALS),help),$(if $(filter undefined,$(origin READS_$(goal))),,$(goal)))
override READ := $(sort $(foreach goal,$(GOALS),$(READS_$(goal)) $(if $(filter-out help clean,$(goal)),PYTHON GPU)))
override UNREAD := $(filter-out $(READ),$(GIVEN))
override MISSING := $(foreach name,$(foreach goal,$(GOALS),$(NEEDS_$(goal))),$(if $($(name)),,$(name)))
ifneq (,$(and $(GOALS),$(UNREAD)))
$(error `make $(GOALS)` does not read $(UNREAD); it reads $(or $(READ),no variables))
endif
ifneq (,$(MISSING))
$(error `make $(GOALS)` needs $(MISSING): add $(MISSING)=…; see `make help`)
endif
