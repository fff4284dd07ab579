# SPDX-License-Identifier: Apache-2.0
"""Enclave files of every format as one stream of measured pages; signing and verifying them."""

from ensconce.image.page import ALL_CHUNKS, Image, Mode, PageRun, measure_runs
from ensconce.image.report import ImageReport, Memory, check_image, verify_image
from ensconce.image.sdk_image import SdkImage, ThreadSlot
from ensconce.image.sgxs import SgxsImage, write_sgxs
from ensconce.image.sigstruct import (
    Signer,
    finish_sigstruct,
    key_signer,
    sign_sigstruct,
    sigstruct_fault,
    verify_sigstruct,
)
from ensconce.image.source import open_image

__all__ = [
    "ALL_CHUNKS",
    "Image",
    "ImageReport",
    "Memory",
    "Mode",
    "PageRun",
    "SdkImage",
    "SgxsImage",
    "Signer",
    "ThreadSlot",
    "check_image",
    "finish_sigstruct",
    "key_signer",
    "measure_runs",
    "open_image",
    "sign_sigstruct",
    "sigstruct_fault",
    "verify_image",
    "verify_sigstruct",
    "write_sgxs",
]
