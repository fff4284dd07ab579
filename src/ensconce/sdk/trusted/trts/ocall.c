/* SPDX-License-Identifier: Apache-2.0 */
/* Calling out: the host's stack, leaving, and coming back. */
#include "sgx_edger8r.h"
#include "sgx_trts.h"
#include "trts.h"

/* Arguments on the host's stack start at multiples of this. */
#define ALIGNMENT 16
/* The return address, RBP and RSP that entry.S pushes at an ECALL, in words below last_sp. */
#define FRAME_RSP 3

extern const struct {
    size_t nr_ocall;
} g_dyn_entry_table __attribute__((visibility("hidden")));

/* Write to each page from the top down, with the stack pointer following: so kernels grow stacks,
   and no jump goes over the guard page. */
static void touch_pages(struct ssa_gpr *ssa, uintptr_t top, uintptr_t bottom)
{
    uintptr_t last = bottom & ~(uintptr_t)(PAGE - 1);
    for (uintptr_t page = (top - 1) & ~(uintptr_t)(PAGE - 1); page >= last; page -= PAGE) {
        uintptr_t touched = page > bottom ? page : bottom;
        ssa->ursp = touched;
        *(volatile uint64_t *)touched = 0;
    }
}

/* The host's stack pointer is in the SSA frame, where EENTER put it: an OCALL leaves with it, so
   moving it down reserves memory and ERET, which uses the ECALL frame's, gives it back. */
void *sgx_ocalloc(size_t size)
{
    struct ssa_gpr *ssa = tee_ssa(tee_thread());
    uintptr_t top = ssa->ursp;
    if (!sgx_is_outside_enclave((void *)top, sizeof(uint64_t))) tee_abort();
    if (size > top) return NULL;
    uintptr_t bottom = (top - size) & ~(uintptr_t)(ALIGNMENT - 1);
    if (bottom < PAGE || !sgx_is_outside_enclave((void *)bottom, top - bottom)) return NULL;
    if (size != 0) touch_pages(ssa, top, bottom);
    ssa->ursp = bottom;
    return (void *)bottom;
}

void sgx_ocfree(void)
{
    struct thread_data *thread = tee_thread();
    uintptr_t entered = ((const uint64_t *)thread->last_sp)[-FRAME_RSP];
    if (!sgx_is_outside_enclave((void *)entered, sizeof(uint64_t))) tee_abort();
    tee_ssa(thread)->ursp = entered;
}

sgx_status_t sgx_ocall(const unsigned int index, void *ms)
{
    if (index >= g_dyn_entry_table.nr_ocall) return SGX_ERROR_INVALID_FUNCTION;
    return (sgx_status_t)tee_ocall(index, ms);
}

sgx_status_t sgx_ocall_switchless(const unsigned int index, void *ms)
{
    return sgx_ocall(index, ms);
}

int tee_return_from_ocall(void *ms)
{
    struct thread_data *thread = tee_thread();
    if (thread == NULL || tee_is_root(thread)) return SGX_ERROR_UNEXPECTED;
    struct ocall_context *context = (struct ocall_context *)thread->last_sp;
    uintptr_t here = (uintptr_t)&thread;
    if ((uintptr_t)context <= here ||
        (uintptr_t)context > thread->stack_base - sizeof *context - FRAME_RSP * 8 ||
        context->flag != OCALL_FLAG || context->previous_sp <= (uintptr_t)context ||
        context->previous_sp > thread->stack_base)
        return SGX_ERROR_UNEXPECTED;
    thread->last_sp = context->previous_sp;
    context->flag = 0;
    tee_oret(context, (int)(uintptr_t)ms);
}
