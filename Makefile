# make help lists the targets. Variables: RECIPE=, DATASET=, DATA_DIR=, RUN=, OUT=, ARGS=.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN_PYTHON := $(VENV)/bin/python
CIFAR_MODELS := $(RUN_PYTHON) -m cifar_models
REQUIREMENTS := requirements.txt $(if $(GPU),requirements-gpu.txt)
INSTALLED := $(VENV)/installed$(if $(GPU),-gpu)

DATA_OPTIONS = $(if $(DATASET),--dataset '$(DATASET)') $(if $(DATA_DIR),--data-dir '$(DATA_DIR)')
# The bundled digits are scans of 8 pixels and have small recipes of their own.
recipe_for = $(if $(filter digits,$(DATASET)),digits-$(1:digits-%=%),$(1))

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: setup
setup: $(INSTALLED) ## make .venv and install requirements.txt (GPU=1: the CUDA libraries too)

$(INSTALLED): requirements.txt requirements-gpu.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(REQUIREMENTS))
	touch $@

.PHONY: demo
demo: setup ## train a CNN, a ViT and a hybrid on the bundled digits, and compare them
	@set -e; folder=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	for model in cnn vit hybrid; do \
		$(CIFAR_MODELS) train digits-$$model --run $$folder/$$model; \
	done; \
	$(CIFAR_MODELS) list runs --under $$folder

.PHONY: train-cnn train-vit train-hybrid
train-cnn: setup ## train the CNN (DATASET=, DATA_DIR=, RUN=, ARGS="--set training.epochs=5")
train-vit: setup ## train the Vision Transformer, likewise
train-hybrid: setup ## train the convolutional transformer, likewise
train-cnn train-vit train-hybrid: train-%:
	$(CIFAR_MODELS) train $(call recipe_for,$*) $(DATA_OPTIONS) $(if $(RUN),--run '$(RUN)') $(ARGS)

.PHONY: resume
resume: setup ## go on with the run in RUN= that was stopped or killed
	@test -n '$(RUN)' || { echo 'error: name the run folder: make resume RUN=runs/…' >&2; exit 2; }
	$(CIFAR_MODELS) resume '$(RUN)' $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(ARGS)

.PHONY: tune
tune: setup ## search the ranges of RECIPE= (default: cnn), best recipe in OUT=/best.toml
	$(CIFAR_MODELS) tune $(call recipe_for,$(or $(RECIPE),cnn)) $(DATA_OPTIONS) \
		--out '$(or $(OUT),$(RUN),runs/tune-$(call recipe_for,$(or $(RECIPE),cnn)))' $(ARGS)

.PHONY: compare
compare: setup ## set the runs in RUN="…" against each other, on one page in OUT=
	@test -n '$(RUN)' || { echo 'error: name the run folders: make compare RUN="runs/…"' >&2; exit 2; }
	$(CIFAR_MODELS) compare $(RUN) --out '$(or $(OUT),runs/comparison)' $(ARGS)

.PHONY: study
study: setup ## run what is missing of RECIPE= (default: digits) of experiments/studies/, and compare
	$(CIFAR_MODELS) study $(or $(RECIPE),digits) $(if $(OUT),--out '$(OUT)') $(ARGS)

.PHONY: results
results: setup ## make README's table of results of the records under experiments/records/
	$(RUN_PYTHON) -m experiments.results_table

.PHONY: export
export: setup ## write the model of RUN= as a SavedModel, to OUT= (default: RUN=/export)
	@test -n '$(RUN)' || { echo 'error: name the run folder: make export RUN=runs/…' >&2; exit 2; }
	$(CIFAR_MODELS) export '$(RUN)' --format saved_model $(if $(OUT),--out '$(OUT)') \
		$(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(ARGS)

.PHONY: tensorboard
tensorboard: setup ## show every run under RUN= (default: runs) at localhost:6006
	$(VENV)/bin/tensorboard --logdir '$(or $(RUN),runs)' $(ARGS)

.PHONY: benchmark
benchmark: setup ## measure the training step of RECIPE= (default: cnn), or what RUN= costs to serve
	$(CIFAR_MODELS) benchmark \
		$(or $(RUN),$(call recipe_for,$(or $(RECIPE),cnn)) $(DATA_OPTIONS)) $(ARGS)

.PHONY: notebook
notebook: setup ## run notebooks/cnn_vs_vit.ipynb in place, a minute or two on two cores
	$(VENV)/bin/jupyter execute --inplace notebooks/cnn_vs_vit.ipynb

.PHONY: lint
lint: setup ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

.PHONY: test
test: setup ## the tests, under 6 minutes on two cores
	$(RUN_PYTHON) -m pytest -m 'not slow and not gpu' $(ARGS)

.PHONY: test-slow
test-slow: setup ## every test
	$(RUN_PYTHON) -m pytest $(ARGS)

.PHONY: check
check: lint test ## what a commit must pass

.PHONY: clean
clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
