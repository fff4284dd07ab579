# SPDX-License-Identifier: Apache-2.0
"""Container images without Docker: made of files, the same every time; read with care."""
