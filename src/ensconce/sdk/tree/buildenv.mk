# SPDX-License-Identifier: Apache-2.0
# What Makefiles include to build an enclave with or without mitigations against load value
# injection. MITIGATION-CVE-2020-0551 is LOAD, CF or not set.

SGX_TRUSTED_INCLUDE_PATH ?= $(SGX_SDK)/include
SGX_TRUSTED_LIBRARY_PATH ?= $(SGX_SDK)/lib64

ifneq ($(MITIGATION-CVE-2020-0551),)
ifeq ($(MITIGATION-CVE-2020-0551),LOAD)
MITIGATION_ASFLAGS := -Wa,-mlfence-after-load=yes -Wa,-mlfence-before-indirect-branch=memory
SGX_TRUSTED_LIBRARY_PATH := $(SGX_TRUSTED_LIBRARY_PATH)/cve_2020_0551_load
else ifeq ($(MITIGATION-CVE-2020-0551),CF)
MITIGATION_ASFLAGS := -Wa,-mlfence-before-indirect-branch=all
SGX_TRUSTED_LIBRARY_PATH := $(SGX_TRUSTED_LIBRARY_PATH)/cve_2020_0551_cf
else
$(error MITIGATION-CVE-2020-0551 is $(MITIGATION-CVE-2020-0551): use LOAD or CF, or leave it out)
endif
ifeq ($(wildcard $(SGX_TRUSTED_LIBRARY_PATH)/libsgx_trts.a),)
$(error There is no $(SGX_TRUSTED_LIBRARY_PATH): make it with ensconce sdk path --mitigation cf --mitigation load)
endif
MITIGATION_ASFLAGS += -Wa,-mlfence-before-ret=shl -fno-plt
# Other accesses to thread data are written anew by the linker, without a fence.
MITIGATION_CFLAGS += -fcf-protection=none -mindirect-branch-register -ftls-model=local-exec \
                     -mfunction-return=thunk-extern $(MITIGATION_ASFLAGS)
endif
