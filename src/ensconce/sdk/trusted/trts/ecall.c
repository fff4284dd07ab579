/* SPDX-License-Identifier: Apache-2.0 */
/* From an entry's registers to the function it asks for. */
#include "sgx_lfence.h"
#include "sgx_spinlock.h"
#include "sgx_trts.h"
#include "trts.h"

/* Emitted from the EDL file. */
extern const struct {
    size_t nr_ecall;
    struct {
        void *ecall_addr;
        uint8_t is_priv;
        uint8_t is_switchless;
    } ecall_table[];
} g_ecall_table __attribute__((visibility("hidden")));
extern const struct {
    size_t nr_ocall;
    uint8_t entry_table[]; /* [nr_ocall][nr_ecall]: may this OCALL enter that ECALL? */
} g_dyn_entry_table __attribute__((visibility("hidden")));

typedef int (*ecall_function)(void *ms);

int sgx_is_enclave_crashed(void)
{
    return __atomic_load_n(&tee_state, __ATOMIC_SEQ_CST) == STATE_CRASHED;
}

_Noreturn void tee_abort(void)
{
    __atomic_store_n(&tee_state, STATE_CRASHED, __ATOMIC_SEQ_CST);
    for (;;) __asm__ __volatile__("ud2");
}

/* A root ECALL must be public; one under an OCALL must be allowed by that OCALL. */
static int check_allowed(const struct thread_data *thread, uint64_t index)
{
    if (index >= g_ecall_table.nr_ecall) return SGX_ERROR_INVALID_FUNCTION;
    sgx_lfence();
    if (tee_is_root(thread))
        return g_ecall_table.ecall_table[index].is_priv ? SGX_ERROR_ECALL_NOT_ALLOWED : 0;
    const struct ocall_context *context = (const struct ocall_context *)thread->last_sp;
    if (context->flag != OCALL_FLAG) tee_abort();
    if (context->index >= g_dyn_entry_table.nr_ocall) return SGX_ERROR_INVALID_FUNCTION;
    size_t entry = context->index * g_ecall_table.nr_ecall + index;
    return g_dyn_entry_table.entry_table[entry] ? 0 : SGX_ERROR_ECALL_NOT_ALLOWED;
}

/* Constructors run once, in the first ECALL: they may make OCALLs, which starting may not. */
static int construct_once(const struct thread_data *thread)
{
    static int done;
    static sgx_spinlock_t lock = SGX_SPINLOCK_INITIALIZER;
    if (__atomic_load_n(&done, __ATOMIC_ACQUIRE)) return SGX_SUCCESS;
    if (!tee_is_root(thread)) return SGX_ERROR_ECALL_NOT_ALLOWED;
    sgx_spin_lock(&lock);
    if (!done) {
        tee_construct();
        __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    }
    sgx_spin_unlock(&lock);
    return SGX_SUCCESS;
}

static int call(uint64_t index, void *ms, uintptr_t tcs)
{
    struct thread_data *thread = tee_thread();
    /* Unbound threads start anew with each root ECALL: the host may give any thread any TCS. */
    if (thread == NULL ||
        (tee_is_root(thread) && g_global_data.thread_policy != THREAD_POLICY_BIND)) {
        int status = tee_start_thread(tcs);
        if (status != SGX_SUCCESS) return status;
        thread = tee_thread();
    }
    int status = construct_once(thread);
    if (status == SGX_SUCCESS) status = check_allowed(thread, index);
    if (status != SGX_SUCCESS) return status;
    sgx_lfence();
    status = ((ecall_function)g_ecall_table.ecall_table[index].ecall_addr)(ms);
    /* An unbound thread ends with its root ECALL. */
    if (g_global_data.thread_policy != THREAD_POLICY_BIND && tee_is_root(thread))
        tee_libc_end_thread();
    return status;
}

/* The host may come at any time, with any TCS and as often as it likes. */
static int enter_thread(void *ms, uintptr_t tcs)
{
    const struct thread_data *thread = tee_thread();
    if (tee_run_thread == NULL || (thread != NULL && !tee_is_root(thread)))
        return SGX_ERROR_ECALL_NOT_ALLOWED;
    return tee_run_thread(ms, tcs);
}

static int start(void *ms, uintptr_t tcs)
{
    uint32_t expected = STATE_NEW;
    if (!__atomic_compare_exchange_n(&tee_state, &expected, STATE_STARTING, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return SGX_ERROR_UNEXPECTED;
    int status = tee_start(ms);
    if (status == SGX_SUCCESS) status = tee_start_thread(tcs);
    uint32_t next = status == SGX_SUCCESS ? STATE_RUNNING : STATE_CRASHED;
    __atomic_store_n(&tee_state, next, __ATOMIC_SEQ_CST);
    return status;
}

static int finish(void)
{
    tee_destruct();
    __atomic_store_n(&tee_state, STATE_CRASHED, __ATOMIC_SEQ_CST);
    return SGX_SUCCESS;
}

static int dispatch(int index, void *ms, uintptr_t tcs)
{
    if (index == ECMD_INIT_ENCLAVE) return start(ms, tcs);
    if (__atomic_load_n(&tee_state, __ATOMIC_SEQ_CST) != STATE_RUNNING) return SGX_ERROR_UNEXPECTED;
    if (index >= 0) return call((uint64_t)index, ms, tcs);
    if (index == ECMD_ORET) return tee_return_from_ocall(ms);
    if (index == ECMD_UNINIT_ENCLAVE) return finish();
    if (index == ECMD_ECALL_PTHREAD) return enter_thread(ms, tcs);
    /* A host that can add pages asks for more threads when it runs out: no reason to end. */
    if (index == ECMD_MKTCS) return SGX_ERROR_FEATURE_NOT_SUPPORTED;
    return SGX_ERROR_UNEXPECTED;
}

int tee_enter(int index, void *ms, uintptr_t tcs, uint64_t cssa)
{
    if (sgx_is_enclave_crashed()) return SGX_ERROR_ENCLAVE_CRASHED;
    int status = SGX_ERROR_UNEXPECTED;
    if (cssa == 0)
        status = dispatch(index, ms, tcs);
    else if (cssa == 1)
        status = tee_first_phase(tcs);
    /* What nobody foresaw leaves unknown state behind. */
    if (status == SGX_ERROR_UNEXPECTED)
        __atomic_store_n(&tee_state, STATE_CRASHED, __ATOMIC_SEQ_CST);
    return status;
}
