/* SPDX-License-Identifier: Apache-2.0 */
/* Where musl finds its thread structure. FS points at the runtime's thread data, whose fields are
   an ABI; a pointer follows, to the structure that is in the same page or, in a thread that the
   enclave made, to one that outlives the thread until it is joined. */
#ifndef TEE_PTHREAD_OFFSET
#define TEE_SELF_OFFSET 248
#define TEE_PTHREAD_OFFSET 256

static inline uintptr_t __get_tp(void)
{
    uintptr_t self;
    __asm__("mov %%fs:%c1, %0" : "=r"(self) : "i"(TEE_SELF_OFFSET));
    return self;
}

#define MC_PC gregs[REG_RIP]
#endif
