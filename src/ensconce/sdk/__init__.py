# SPDX-License-Identifier: Apache-2.0
"""The TEE SDK: from C and EDL sources to an enclave's image."""
