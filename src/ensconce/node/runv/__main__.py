# SPDX-License-Identifier: Apache-2.0
"""Run the OCI runtime where its script is not installed."""

import sys

from ensconce.node.runv.command import main

sys.exit(main())
