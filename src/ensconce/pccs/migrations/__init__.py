# SPDX-License-Identifier: Apache-2.0
"""Migrations of the PCCS's database, one file a version, run by `schema.migrate`."""
