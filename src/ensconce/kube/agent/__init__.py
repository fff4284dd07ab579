# SPDX-License-Identifier: Apache-2.0
"""The node agent: the device plugin's host, and what it tells the cluster of its node."""
