/* SPDX-License-Identifier: Apache-2.0 */
/* The trusted runtime's own interface: what its files and the libc's glue need of each other. */
#ifndef TRTS_H
#define TRTS_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "sgx_error.h"

enum { STATE_NEW = 0, STATE_STARTING = 1, STATE_RUNNING = 2, STATE_CRASHED = 3 };

/* Exported for signer, loader and debugger. */
extern struct global_data g_global_data;

/* Where the enclave is, known from the start of ECMD_INIT_ENCLAVE on. */
extern uintptr_t tee_base;
extern size_t tee_size;

extern uint32_t tee_state;        /* one of STATE_, atomic */
extern uint64_t tee_xfrm;         /* SECS.ATTRIBUTES.XFRM; x87 and SSE until it is known */
extern uint32_t tee_misc_select;  /* SECS.MISCSELECT */

/* entry.S */
extern const char tee_entry_start[], tee_entry_end[], tee_ereport_enclu[];
int tee_ocall(uint64_t index, void *ms);
_Noreturn void tee_oret(struct ocall_context *context, int status);
_Noreturn void tee_leave(int status); /* end the root ECALL, from wherever in it */
void tee_second_phase(void);
int tee_ereport(const void *target_info, const void *report_data, void *report);
int tee_egetkey(const void *key_request, void *key);

/* The C half of entering; status is the ECALL's, or an SGX_ERROR_. */
int tee_enter(int index, void *ms, uintptr_t tcs, uint64_t cssa);

/* start.c */
int tee_start(const struct system_features *host);
int tee_start_thread(uintptr_t tcs);
void tee_construct(void);
void tee_destruct(void);

/* ocall.c: resume the OCALL that the host answers. Returns only on a host's protocol error. */
int tee_return_from_ocall(void *ms);

/* exception.c */
int tee_first_phase(uintptr_t tcs);
void tee_mark_static_stack(uintptr_t tcs);

/* End the enclave: nothing can enter it any more, and this thread stops here. */
_Noreturn void tee_abort(void);

/* libc glue (tstdc). */
int tee_libc_start(void *heap, size_t heap_size);
void tee_libc_start_thread(struct thread_data *thread);
void tee_libc_end_thread(void);
void tee_libc_exit(void);

/* What is used if it is linked. Hidden, so that it is settled at link time. */
#define TEE_OPTIONAL __attribute__((__weak__, __visibility__("hidden")))

/* Tell the crypto library of the host's CPUID leaves 0 to 7; before any of the enclave's own code
   runs. */
TEE_OPTIONAL void tee_crypto_start(const uint32_t cpuid[8][4], uint64_t xfrm);

/* Be a thread that the enclave asked the host for; returns only when it asked for none. */
TEE_OPTIONAL int tee_run_thread(void *ms, uintptr_t tcs);

/* This TCS's thread data, NULL before its first ECALL; volatile, as that ECALL changes it. */
static inline struct thread_data *tee_thread(void)
{
    struct thread_data *self;
    __asm__ __volatile__("mov %%gs:0, %0" : "=r"(self));
    return self;
}

/* No OCALL is outstanding in this thread. */
static inline int tee_is_root(const struct thread_data *thread)
{
    return thread->last_sp == thread->stack_base;
}

static inline struct ssa_gpr *tee_ssa(const struct thread_data *thread)
{
    return (struct ssa_gpr *)thread->first_ssa_gpr;
}

#endif
