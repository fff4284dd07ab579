# SPDX-License-Identifier: Apache-2.0
"""What the SGX manual (Intel SDM vol. 3D) says: structures, numbers, CPUID, measurement. No I/O."""
