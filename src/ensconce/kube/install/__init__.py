# SPDX-License-Identifier: Apache-2.0
"""One install: the chart's objects, applied, awaited, and taken away again."""
