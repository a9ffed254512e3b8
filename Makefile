.PHONY: help setup demo up cluster test unit check schema benchmarks images clean

PLATFORM ?= ray

help:
	@echo "make demo        set up, then show the whole loop on a real MNIST service (about 5 minutes after the set-up)"
	@echo "                 PLATFORM=kubernetes shows it on a Kubernetes cluster of its own (Linux, root and Go; about 7 minutes once it is built)"
	@echo "make up          set up, then run the system until Ctrl-C"
	@echo "make cluster     set up, then run a Kubernetes cluster until Ctrl-C (Linux, root and Go; built once, about ten minutes)"
	@echo "make test        set up, then run every test"
	@echo "make unit        set up, then run the unit tests (no network, about a minute)"
	@echo "make check       lint, type-check, check the layers"
	@echo "make benchmarks  run the benchmarks and write reports/benchmarks.html"
	@echo "make images      build a container image and run a step in it on a Kubernetes cluster (root, Go, buildah and mmdebstrap; about two minutes)"
	@echo "make clean       remove .venv and what was generated"

setup:
	@scripts/setup

demo: setup
	@.venv/bin/python -m benchmarks.demo --platform $(PLATFORM)

up: setup
	@.venv/bin/autonomic up

cluster: setup
	@.venv/bin/autonomic cluster up

test: setup
	@scripts/test

unit: setup
	@scripts/test tests/unit

check: setup
	@scripts/check

benchmarks: setup
	@.venv/bin/python -m benchmarks

images: setup
	@.venv/bin/pytest benchmarks/images

clean:
	rm -rf .venv .autonomic reports build dist .pytest_cache .ruff_cache
