# SPDX-License-Identifier: Apache-2.0
"""What the harness raises."""

__all__ = ["HarnessError"]


class HarnessError(Exception):
    """The cluster can't do what was asked; the message says why."""
