# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: core
core:
	@$(BIN)/python setup.py -q build_ext --inplace
