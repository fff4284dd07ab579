# SPDX-License-Identifier: Apache-2.0
"""Confidential computing on Kubernetes for Intel SGX, on any x86-64 machine."""

__version__ = "0.1.0"
