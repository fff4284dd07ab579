# SPDX-License-Identifier: Apache-2.0
"""The node's platform: what it has, its identity, and, to come, its service and quoting role."""
