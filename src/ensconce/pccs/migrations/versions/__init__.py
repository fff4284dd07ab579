# SPDX-License-Identifier: Apache-2.0
"""The versions, in the order that each names as its `down_revision`."""
