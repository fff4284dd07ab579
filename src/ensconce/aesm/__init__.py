# SPDX-License-Identifier: Apache-2.0
"""The AESM protocol: a service that makes quotes for a node's enclaves, and a client of it."""
