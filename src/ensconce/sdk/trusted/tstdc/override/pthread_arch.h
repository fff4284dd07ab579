/* SPDX-License-Identifier: Apache-2.0 */
/* Where musl finds its thread structure. FS points at the runtime's thread data, whose fields are
   an ABI; musl's own structure follows in the same page. */
#ifndef TEE_PTHREAD_OFFSET
#define TEE_PTHREAD_OFFSET 256

static inline uintptr_t __get_tp(void)
{
    uintptr_t thread;
    __asm__("mov %%fs:0, %0" : "=r"(thread));
    return thread + TEE_PTHREAD_OFFSET;
}

#define MC_PC gregs[REG_RIP]
#endif
