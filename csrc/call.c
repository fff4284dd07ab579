/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of entries: an untrusted stack, and one way to call either enter function on it.
 *
 * The emulated processor is entered from the host's stack: only the enclave uses the untrusted
 * one. Any other function of the vDSO's ABI is called on the untrusted stack through the thunk. */
#include "core.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A large OCALL frame must not reach past the guard. */
enum { GUARD = 1 << 20, TOP_ROOM = 256, LEAST_ROOM = CORE_PAGE };

static _Thread_local struct core_call *current __attribute__((tls_model("initial-exec")));

int core_call_open(struct core_call *call, uint64_t enter, uint64_t stack_size) {
    const uint64_t least = 4 * CORE_PAGE, most = 1ull << 32;

    memset(call, 0, sizeof *call);
    if (stack_size < least || stack_size > most)
        return -EINVAL;
    stack_size = (stack_size + CORE_PAGE - 1) & ~(uint64_t)(CORE_PAGE - 1);
    call->map_size = GUARD + stack_size;
    uint8_t *map = mmap(NULL, call->map_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    if (mprotect(map, GUARD, PROT_NONE) != 0) {
        int error = errno;
        munmap(map, call->map_size);
        return -error;
    }
    call->map = map;
    call->low = (uint64_t)map + GUARD;
    call->high = (uint64_t)map + call->map_size;
    call->enter = enter;
    if (enter == core_vdso_symbol("__vdso_sgx_enter_enclave", NULL))
        call->aep = core_vdso_aep();
    return 0;
}

void core_call_close(struct core_call *call) {
    if (call->map)
        munmap(call->map, call->map_size);
    call->map = NULL;
}

static int enter_emulated(struct core_call *call, uint32_t function) {
    struct core_frame f;

    memset(f.gpr, 0, sizeof f.gpr); /* the rest is set before it is read */
    f.tcs_address = call->run.tcs;
    f.gpr[CORE_RDI] = call->rdi;
    f.gpr[CORE_RSI] = call->rsi;
    f.ursp = f.urbp = call->rsp;
    f.interrupted = call->interrupted;
    f.context = call->context;
    int result = core_enter(&f, function);
    if (result < 0)
        return result;
    call->run.function = f.function;
    if (result > 0) {
        call->run.vector = (uint16_t)f.vector;
        call->run.error_code = (uint16_t)f.error_code;
        call->run.address = f.address;
        call->rdi = f.vector;
        call->rsi = f.error_code;
        call->rdx = f.address;
        return result;
    }
    call->rdi = f.gpr[CORE_RDI];
    call->rsi = f.gpr[CORE_RSI];
    call->rdx = f.gpr[CORE_RDX];
    call->r8 = f.gpr[CORE_R8];
    call->r9 = f.gpr[CORE_R9];
    call->rsp = f.gpr[CORE_RSP];
    return 0;
}

/* Suspended calls of the vDSO function whose frames lie under `rsp` are gone. */
static void forget_below(struct core_call *call, uint64_t rsp) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < call->anchors; i++)
        if (call->anchor[i].rsp >= rsp)
            call->anchor[kept++] = call->anchor[i];
    call->anchors = kept;
}

static bool take_anchor(struct core_call *call) {
    for (uint32_t i = 0; i < call->anchors; i++)
        if (call->anchor[i].rsp == call->rsp) {
            call->rbp = call->anchor[i].rbp;
            call->back = call->anchor[i].back;
            call->anchor[i] = call->anchor[--call->anchors];
            return true;
        }
    return false;
}

static void leave_anchor(struct core_call *call) {
    const uint32_t most = sizeof call->anchor / sizeof call->anchor[0];
    if (call->anchors < most && call->back)
        call->anchor[call->anchors++] =
            (struct core_anchor){.rsp = call->rsp, .rbp = call->rbp, .back = call->back};
}

/* A resumed enclave goes on in the vDSO call that it left, so that a storm of exceptions does not
 * use up the stack: its user handler seems to return ERESUME. */
static int enter_by_thunk(struct core_call *call, uint32_t function) {
    struct core_call *outer = current;

    call->run.user_handler = (uint64_t)core_thunk_handler;
    call->run.user_data = (uint64_t)call;
    forget_below(call, call->rsp);
    current = call;
    if (function == CORE_ERESUME && take_anchor(call))
        core_thunk_resume(call, function);
    else
        core_thunk(call, function);
    current = outer;
    if (call->result)
        return call->result < 0 ? call->result : -EPROTO;
    if (call->run.function == CORE_EEXIT && call->run.vector == 0)
        return 0;
    leave_anchor(call);
    return 1;
}

/* Enter an enclave. Returns 0 for EEXIT, 1 for an exception, a negative errno; -ERANGE for a stack
 * pointer that is not within this call's stack, -EBUSY while the call is in use. */
int core_call_enter(struct core_call *call, uint32_t function, uint64_t tcs, uint64_t rdi,
                    uint64_t rsi, uint64_t rsp) {
    if (!call->map)
        return -EBADF;
    if (function != CORE_EENTER && function != CORE_ERESUME)
        return -EINVAL;
    if (rsp == 0)
        rsp = call->high - TOP_ROOM;
    if (rsp < call->low + LEAST_ROOM || rsp > call->high)
        return -ERANGE;
    if (__atomic_exchange_n(&call->busy, 1, __ATOMIC_ACQUIRE))
        return -EBUSY;
    call->run = (struct core_run){.tcs = tcs};
    call->rdi = rdi;
    call->rsi = rsi;
    call->rdx = call->r8 = call->r9 = 0;
    call->rsp = rsp;
    int result = call->enter == (uint64_t)core_enter_enclave ? enter_emulated(call, function)
                                                             : enter_by_thunk(call, function);
    __atomic_store_n(&call->busy, 0, __ATOMIC_RELEASE);
    return result;
}

static struct core_call *call_at_aep(const greg_t *regs) {
    struct core_call *call = current;
    if (!call || !call->aep || (uint64_t)regs[REG_RIP] != call->aep ||
        regs[REG_RAX] != CORE_ERESUME)
        return NULL;
    return call;
}

/* #BP and #DB are the two exceptions that the kernel's enter function does not report. */
bool core_call_trapped(ucontext_t *context) {
    greg_t *regs = context->uc_mcontext.gregs;
    struct core_call *call = call_at_aep(regs);

    if (!call)
        return false;
    call->run.function = CORE_ERESUME;
    call->run.vector = (uint16_t)regs[REG_TRAPNO];
    call->run.error_code = 0;
    call->run.address = 0;
    call->rdi = call->run.vector;
    call->rsi = call->rdx = 0;
    call->rsp = (uint64_t)regs[REG_RSP];
    call->back = 0; /* no user handler was called: there is nothing to go on in */
    regs[REG_RIP] = (greg_t)(uintptr_t)core_thunk_leave;
    regs[REG_RDI] = (greg_t)(uintptr_t)call;
    regs[REG_RSI] = 0;
    return true;
}

/* Did the signal find the kernel's enter function about to resume an enclave? Then have the host
 * asked first whether it wants to: the processor has done the AEX already. */
bool core_call_at_aep(ucontext_t *context) {
    greg_t *regs = context->uc_mcontext.gregs;
    struct core_call *call = call_at_aep(regs);

    if (!call || !call->interrupted)
        return false;
    regs[REG_RIP] = (greg_t)(uintptr_t)core_thunk_aep;
    regs[REG_RDI] = (greg_t)(uintptr_t)call;
    return true;
}

/* For core_thunk_aep: zero to resume the enclave, else the result of the entry. */
int core_call_interrupted(struct core_call *call) {
    return call->interrupted(call->context) ? -EINTR : 0;
}
