# SPDX-License-Identifier: Apache-2.0
"""SGX on Kubernetes: device plugin, node agent, admission webhook, installation, cluster creation.

Everything here speaks Kubernetes' own interfaces, under the names that workloads already use.
"""
