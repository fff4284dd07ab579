# SPDX-License-Identifier: Apache-2.0
"""The emulated SGX processor, and a model of Linux's driver over it."""
