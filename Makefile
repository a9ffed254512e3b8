.PHONY: help setup demo up cluster test test-kubernetes chaos unit check schema benchmarks images clean

PLATFORM ?= ray
SEEDS ?= 1-5
PARTS ?=

help:
	@echo "make demo        set up, then show the whole loop on a real MNIST service (some minutes after the set-up)"
	@echo "                 PARTS=surge,drift shows these alone, of surge, drift, poison, death and tune"
	@echo "                 PLATFORM=kubernetes shows it on a Kubernetes cluster of its own (Linux, root and Go)"
	@echo "make up          set up, then run the system until Ctrl-C"
	@echo "make cluster     set up, then run a Kubernetes cluster until Ctrl-C (Linux, root and Go; built once, about ten minutes)"
	@echo "make test        set up, then run the tests that need no cluster, three groups at a time"
	@echo "make test-kubernetes"
	@echo "                 set up, build the cluster where it is not built yet, then run the tests that need one (Linux, root and Go)"
	@echo "make chaos       kill things at random moments, with many seeds; goes on where it was interrupted (SEEDS=1-5)"
	@echo "make unit        set up, then run the unit tests (no network, about a minute)"
	@echo "make check       lint, type-check, check the layers"
	@echo "make benchmarks  run the benchmarks and write reports/benchmarks.html"
	@echo "make images      build a container image and run a step in it on a Kubernetes cluster (root, Go, buildah and mmdebstrap; about two minutes)"
	@echo "make clean       remove .venv and what was generated"

setup:
	@scripts/setup

demo: setup
	@.venv/bin/python -m benchmarks.demo --platform $(PLATFORM) --parts "$(PARTS)"

up: setup
	@.venv/bin/autonomic up

cluster: setup
	@.venv/bin/autonomic cluster up

test: setup
	@scripts/test

test-kubernetes: setup
	@scripts/test-kubernetes

chaos: setup
	@.venv/bin/python scripts/chaos.py $(SEEDS)

unit: setup
	@.venv/bin/python scripts/side_by_side.py units

check: setup
	@scripts/check

benchmarks: setup
	@.venv/bin/python -m benchmarks

images: setup
	@.venv/bin/pytest benchmarks/images

clean:
	rm -rf .venv .autonomic reports build dist .pytest_cache .ruff_cache
