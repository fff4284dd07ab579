# SPDX-License-Identifier: Apache-2.0
"""One machine: its pods and their sandboxes, without a cluster."""
