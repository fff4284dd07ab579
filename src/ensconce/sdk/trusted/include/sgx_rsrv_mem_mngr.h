/* SPDX-License-Identifier: Apache-2.0 */
/* Reserved memory: a range of the enclave beside its heap, for code made or loaded at run time.
   The signer's configuration says how much there is (ReservedMemMaxSize and its like) and whether
   it may be run (ReservedMemExecutable). Sizes and addresses are multiples of the page size. */
#ifndef SGX_RSRV_MEM_MNGR_H
#define SGX_RSRV_MEM_MNGR_H

#include <stddef.h>
#include <stdint.h>

#include "sgx_error.h"

#define SGX_PROT_NONE 0x0
#define SGX_PROT_READ 0x1
#define SGX_PROT_WRITE 0x2
#define SGX_PROT_EXEC 0x4

#ifdef __cplusplus
extern "C" {
#endif

/* Where it is and how large; either may be NULL. The size is 0 in an enclave that has none. */
sgx_status_t sgx_get_rsrv_mem_info(void **start_addr, size_t *max_size);

/* Zeroed pages, at an address (NULL: anywhere). NULL with errno EPERM where there is no reserved
   memory, EINVAL for what is not pages of it, ENOMEM where they are taken. */
void *sgx_alloc_rsrv_mem_ex(void *desired_addr, size_t length);
void *sgx_alloc_rsrv_mem(size_t length);

/* Give back pages that are all allocated. 0, or -1 with errno EINVAL. */
int sgx_free_rsrv_mem(void *addr, size_t length);

/* Ask for the rights that allocated pages were signed with, or fewer: SGX_SUCCESS. Rights are fixed
   when the enclave is loaded, so fewer are not enforced, and more (SGX_PROT_EXEC without
   ReservedMemExecutable) are SGX_ERROR_INVALID_PARAMETER. */
sgx_status_t sgx_tprotect_rsrv_mem(void *addr, size_t length, int prot);

#ifdef __cplusplus
}
#endif

#endif
