# The commands of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo
DEMO_SECONDS ?= 60

.PHONY: help setup check test demo bench faults mutants soak cluster-up cluster-down images crds fmt clean-figures

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the project needs and is missing (Debian packages)
	@scripts/setup.sh

check: ## format, clippy, generated files, licences and sources of dependencies
	@scripts/check.sh

test: ## every test, the real cluster included; LANEKEEPER_SKIP="tier,tier" leaves tiers out by name
	@scripts/test.sh

demo: ## the SaaS workload on this machine, live, with a summary; DEMO_SECONDS bounds the traffic
	@DEMO_SECONDS=$(DEMO_SECONDS) scripts/demo.sh

bench: ## benchmarks, each beside the raw Redis limit of the same run
	@scripts/bench.sh

faults: ## every row of the fault table in full (ROWS="3 13" plays some), judged by the ledger
	@scripts/faults.sh full $(ROWS)

soak: ## a million random operations on the queue library and its reference model, side by side; SOAK_SEED repeats a run
	@$(if $(SOAK_SEED),LANEKEEPER_MODEL_SEED=$(SOAK_SEED)) LANEKEEPER_MODEL_OPS=1000000 $(CARGO) test --locked --profile mutants -p lanekeeper-queue --test model -- --nocapture

mutants: ## faults made in the Lua one by one, each of which must be caught; SAMPLE=100 takes a part of them, a second run goes on
	@scripts/lua-mutants.py --jobs 2 $(if $(SAMPLE),--sample $(SAMPLE)) --out target/figures/mutants.jsonl

images: ## container images without a Docker engine, as OCI tars in target/images
	@docker/build-images.sh

cluster-up: ## a cluster to play with: kind where Docker runs, else one real node
	@tests/cluster/cluster.sh up

cluster-down: ## stop it and remove its state
	@tests/cluster/cluster.sh down

crds: ## regenerate crds/, the chart's copy and docs/reference.md
	@$(CARGO) run -q -p lanekeeper-api --bin crdgen -- --out crds --helm charts/lanekeeper/templates/crds --docs docs/reference.md

fmt: ## format
	@$(CARGO) fmt --all
