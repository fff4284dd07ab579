/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions inside the enclave, in two phases.

   One: after the AEX the host enters at CSSA 1, on the static stack. The interrupted state is
   copied from SSA frame 0 to the interrupted thread's stack, and the frame is changed so that
   ERESUME goes to phase two. Two: on that stack, at CSSA 0, handlers run as ordinary code and may
   make OCALLs; then execution goes on with the registers as they left them. */
#include <stdlib.h>
#include <string.h>

#include "sgx_spinlock.h"
#include "sgx_trts.h"
#include "sgx_trts_exception.h"
#include "trts.h"

#define RFLAGS_CF 0x1ull
#define RFLAGS_TF 0x100ull
#define RFLAGS_DF 0x400ull
#define RFLAGS_AC 0x40000ull
#define ENCLU_LENGTH 3

struct handler {
    struct handler *next;
    sgx_exception_handler_t call;
};

static struct handler *first_handler;
static sgx_spinlock_t handlers_lock = SGX_SPINLOCK_INITIALIZER;
static uint64_t static_stack_mark;

/* The lowest word of a TCS's static stack; phase one must never reach it. */
static uint64_t *static_stack_end(uintptr_t tcs)
{
    return (uint64_t *)(tcs - GUARD_SIZE - STATIC_STACK_SIZE);
}

void tee_mark_static_stack(uintptr_t tcs)
{
    if (static_stack_mark == 0 &&
        sgx_read_rand((unsigned char *)&static_stack_mark, sizeof static_stack_mark) != 0)
        tee_abort();
    *static_stack_end(tcs) = static_stack_mark;
}

static int is_on_stack(const struct thread_data *thread, uintptr_t low, size_t size)
{
    return low >= thread->stack_limit && low <= thread->stack_base &&
           size <= thread->stack_base - low;
}

/* Space for the exception's description below the interrupted code's frame; 0 when there is none,
   or when the interrupted code did not run on the thread's stack. */
static sgx_exception_info_t *make_room(const struct thread_data *thread, const struct ssa_gpr *ssa)
{
    size_t size = sizeof(sgx_exception_info_t) + thread->xsave_size;
    size_t need = RED_ZONE + RESUME_SCRATCH + size + 63 + sizeof(uint64_t);
    if (!is_on_stack(thread, ssa->rsp, 0) || ssa->rsp - thread->stack_limit < need) return NULL;
    return (void *)((ssa->rsp - RED_ZONE - RESUME_SCRATCH - size) & ~(uintptr_t)63);
}

static void describe(sgx_exception_info_t *info, const struct thread_data *thread,
                     const struct ssa_gpr *ssa)
{
    memset(info, 0, sizeof *info);
    static_assert(offsetof(sgx_cpu_context_t, rflags) == offsetof(struct ssa_gpr, rflags), "order");
    memcpy(&info->cpu_context, ssa, sizeof info->cpu_context);
    info->exception_vector = EXIT_INFO_VECTOR(ssa->exit_info);
    info->exception_type = EXIT_INFO_TYPE(ssa->exit_info);
    info->exception_valid = 1;
    if ((tee_misc_select & MISC_EXINFO) != 0 &&
        (info->exception_vector == SGX_EXCEPTION_VECTOR_PF ||
         info->exception_vector == SGX_EXCEPTION_VECTOR_GP)) {
        const struct exinfo *exinfo = (const struct exinfo *)ssa - 1;
        info->exinfo.faulting_address = exinfo->address;
        info->exinfo.error_code = exinfo->error_code;
    }
    info->xsave_size = thread->xsave_size;
    memcpy(info->xsave_area, (const void *)thread->first_ssa_xsave, thread->xsave_size);
}

static int crash(int status)
{
    __atomic_store_n(&tee_state, STATE_CRASHED, __ATOMIC_SEQ_CST);
    return status;
}

/* The interrupted RIP is in code that may run on the host's stack, or at the host's request. */
static int is_in_entry(uint64_t rip)
{
    return rip >= (uintptr_t)tee_entry_start && rip < (uintptr_t)tee_entry_end;
}

int tee_first_phase(uintptr_t tcs)
{
    struct thread_data *thread = tee_thread();
    if (thread == NULL || *static_stack_end(tcs) != static_stack_mark ||
        __atomic_load_n(&tee_state, __ATOMIC_SEQ_CST) != STATE_RUNNING)
        return crash(SGX_ERROR_ENCLAVE_CRASHED);
    struct ssa_gpr *ssa = tee_ssa(thread);
    if ((ssa->exit_info & EXIT_INFO_VALID) == 0 || thread->exception_flag < 0)
        return crash(SGX_ERROR_ENCLAVE_CRASHED);
    if (is_in_entry(ssa->rip)) return crash(SGX_ERROR_ENCLAVE_CRASHED);
    if (ssa->rip == (uintptr_t)tee_ereport_enclu && ssa->rax == LEAF_EREPORT) {
        ssa->rip += ENCLU_LENGTH;
        ssa->rflags |= RFLAGS_CF;
        ssa->exit_info = 0;
        return SGX_SUCCESS;
    }
    sgx_exception_info_t *info = make_room(thread, ssa);
    if (info == NULL) return crash(SGX_ERROR_STACK_OVERRUN);
    if (__atomic_load_n(&first_handler, __ATOMIC_ACQUIRE) == NULL)
        return crash(SGX_ERROR_ENCLAVE_CRASHED);
    describe(info, thread, ssa);
    uint64_t *sp = (uint64_t *)info - 1;
    *sp = ssa->rip; /* as if the faulting instruction had called: debuggers see the whole stack */
    ssa->exit_info = 0; /* one exception, one phase two: the host may not ask again */
    ssa->rip = (uintptr_t)tee_second_phase;
    ssa->rsp = (uintptr_t)sp;
    ssa->rdi = (uintptr_t)info;
    ssa->rflags &= ~(RFLAGS_DF | RFLAGS_AC | RFLAGS_TF);
    if (*static_stack_end(tcs) != static_stack_mark) return crash(SGX_ERROR_STACK_OVERRUN);
    return SGX_SUCCESS;
}

/* The handler at a place in the order; looked up anew each time, as handlers come and go. */
static sgx_exception_handler_t handler_at(size_t position)
{
    sgx_exception_handler_t call = NULL;
    sgx_spin_lock(&handlers_lock);
    for (const struct handler *next = first_handler; next != NULL; next = next->next)
        if (position-- == 0) {
            call = next->call;
            break;
        }
    sgx_spin_unlock(&handlers_lock);
    return call;
}

/* Phase two. When it returns, entry.S goes on with info->cpu_context. */
void tee_handle_exception(sgx_exception_info_t *info)
{
    struct thread_data *thread = tee_thread();
    int answer = EXCEPTION_CONTINUE_SEARCH;
    sgx_exception_handler_t call;
    for (size_t i = 0; answer != EXCEPTION_CONTINUE_EXECUTION && (call = handler_at(i)); i++)
        answer = call(info);
    if (answer != EXCEPTION_CONTINUE_EXECUTION) {
        /* Fault once more, so that the host sees the exception itself; a trap would not. */
        if (info->exception_vector == SGX_EXCEPTION_VECTOR_BP ||
            info->exception_vector == SGX_EXCEPTION_VECTOR_DB)
            tee_abort();
        thread->exception_flag = -1;
    }
    /* A handler may have moved RSP; resuming writes below its red zone, never onto the info. */
    uintptr_t end = (uintptr_t)info->xsave_area + thread->xsave_size;
    uintptr_t rsp = info->cpu_context.rsp;
    if (rsp % sizeof(uint64_t) != 0 || !is_on_stack(thread, rsp, 0) ||
        rsp - end < RED_ZONE + RESUME_SCRATCH || rsp < end)
        tee_abort();
}

void *sgx_register_exception_handler(int is_first_handler, sgx_exception_handler_t handler)
{
    if (!sgx_is_within_enclave((const void *)handler, 0)) return NULL;
    struct handler *node = malloc(sizeof *node);
    if (node == NULL) return NULL;
    node->call = handler;
    sgx_spin_lock(&handlers_lock);
    struct handler **place = &first_handler;
    if (!is_first_handler)
        while (*place != NULL) place = &(*place)->next;
    node->next = *place;
    __atomic_store_n(place, node, __ATOMIC_RELEASE);
    sgx_spin_unlock(&handlers_lock);
    return node;
}

int sgx_unregister_exception_handler(void *handler)
{
    struct handler *node = NULL;
    if (handler == NULL) return 0;
    sgx_spin_lock(&handlers_lock);
    for (struct handler **place = &first_handler; *place != NULL; place = &(*place)->next)
        if (*place == handler) {
            node = *place;
            *place = node->next;
            break;
        }
    sgx_spin_unlock(&handlers_lock);
    free(node);
    return node != NULL;
}
