# SPDX-License-Identifier: Apache-2.0
"""DCAP attestation: is a quote genuine (`verify`), and is it what I want (`validate`)?

Pure: no clock, no network, no emulator.
"""
