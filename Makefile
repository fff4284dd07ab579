# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= aesm,alibabacloud,dev,kube,ratls,sdk,server,test
MINUTES ?= 10

.PHONY: help demo test lint core bench fuzz soak docs package images cluster cluster-test cluster-down ci clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# one virtual environment, made anew when what it is made of changes
$(VENV)/.ready: pyproject.toml constraints.txt setup.py $(wildcard csrc/*.[ch] src/ensconce/kube/*/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ensconce needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, os, sysconfig as s, sys; \
	  sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' || \
	  { echo "ensconce needs Python's venv and headers: apt install python3-venv python3-dev"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "setuptools>=77" -e '.[$(EXTRAS)]'
	@touch $@

core: $(VENV)/.ready ## build the native module in place
	@$(BIN)/python setup.py -q build_ext --inplace

demo: $(VENV)/.ready ## call hello world's enclave, then give one a secret for its quote
	@$(BIN)/python examples/01-hello-world/host.py
	@$(BIN)/python examples/06-remote-attestation/relying_party.py

test: $(VENV)/.ready ## run every test that needs no cluster and no SGX processor
	@$(BIN)/python -m pytest

lint: $(VENV)/.ready ## style, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@PYTHONPATH=src $(BIN)/lint-imports --no-cache

bench: $(VENV)/.ready ## measure, each beside a peer in the same run
	@for each in benchmarks/*.py; do $(BIN)/python $$each || exit 1; done

fuzz: $(VENV)/.ready ## run every fuzz target for MINUTES minutes
	@$(BIN)/python -m pip install -q -c constraints.txt atheris
	@PYTHONPATH=. $(BIN)/python fuzz/seeds.py fuzz/corpus
	@for each in fuzz/fuzz_*.py; do echo "== $$each"; mkdir -p fuzz/corpus/$$(basename $$each .py); \
	  $(BIN)/python $$each -max_total_time=$$(($(MINUTES) * 60)) -print_final_stats=1 \
	  fuzz/corpus/$$(basename $$each .py) || exit 1; done

soak: $(VENV)/.ready ## the tests that take minutes
	@$(BIN)/python -m pytest -m 'slow and not cluster'

docs: $(VENV)/.ready ## check that what the documents show is true
	@$(BIN)/python -m pytest tests/docs

package: $(VENV)/.ready ## build the wheel, with the trusted libraries in it
	@$(BIN)/python -c 'from ensconce.sdk.prebuilt import write_prebuilt; write_prebuilt()'
	@rm -rf build && $(BIN)/python -m pip wheel -q --no-deps -w dist .
	@rm -rf src/ensconce/sdk/prebuilt

images: $(VENV)/.ready ## build container images, as archives in dist/
	@$(BIN)/python -c 'from ensconce.cli.output import show_progress as show; show("ensconce"); \
	  from ensconce.oci.release import write_release_image; write_release_image()'
	@$(BIN)/python examples/07-container/image.py dist

cluster: $(VENV)/.ready ## bring up a real Kubernetes for tests; NAME=… for one beside it
	@$(BIN)/python -m tests.cluster up

cluster-test: $(VENV)/.ready ## run the tests that need a cluster
	@$(BIN)/python -m pytest -m 'cluster and not slow' tests/cluster

cluster-down: $(VENV)/.ready ## take the cluster down
	@$(BIN)/python -m tests.cluster down

ci: lint test ## what .ci/run calls

clean:
	@rm -rf $(VENV) build dist src/*.egg-info src/ensconce/*.so
