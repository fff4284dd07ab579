/* SPDX-License-Identifier: Apache-2.0 */
/* EENTER and ERESUME up to the jump, and what happens when the enclave lets go of the processor
 * (SDM vol. 3D, EENTER, ERESUME, EEXIT and chapter "Enclave exiting events"). */
#include "core.h"

#include <errno.h>
#include <string.h>

enum { ENTERED = 0, EXCEPTION = 1 }; /* also the nonnegative results of core_enter */
enum { STAGE_ENTER, STAGE_RESUME, STAGE_LEAF };
enum { GPR_URSP = 144, GPR_AEXNOTIFY = 167 };
enum { ATTRIBUTES_AEXNOTIFY = 1 << 10 };
enum { XFRM_ALWAYS = 0xff }; /* all but PKRU, which stays the host's, and AMX */

/* Where the enclave is told to exit to: an address that no process maps, so that nothing is lost
 * by an enclave that jumps there, or uses it as a pointer. The host goes on elsewhere. */
enum { EXIT_TARGET = 0x8000 };

static int refuse(struct core_frame *f, uint32_t vector, uint32_t error_code, uint64_t address) {
    f->vector = vector;
    f->error_code = error_code;
    f->address = address;
    return EXCEPTION;
}

static int protection_fault(struct core_frame *f) {
    return refuse(f, CORE_VECTOR_GP, 0, 0);
}

static bool canonical(uint64_t address) {
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* Touch a page of the SSA frame as the processor does, through the enclave's own mapping. */
static int probe_page(struct core_frame *f, uint64_t offset) {
    uint64_t fault_address = 0;
    uint64_t fault = core_probe((volatile void *)(f->enclave->base + offset), &fault_address);
    if (!fault)
        return ENTERED;
    return refuse(f, CORE_VECTOR_PF, (uint32_t)fault, fault_address & ~(uint64_t)(CORE_PAGE - 1));
}

/* Every page of an SSA frame that the processor will use must be readable and writable. */
static int probe_frame(struct core_frame *f, uint64_t offset) {
    const struct core_enclave *enclave = f->enclave;
    uint32_t length = enclave->ssa_frame_bytes, last = length - CORE_PAGE;

    if (offset % CORE_PAGE || offset >= enclave->size || enclave->size - offset < length)
        return refuse(f, CORE_VECTOR_PF, CORE_PF_USER | CORE_PF_WRITE, enclave->base + offset);
    for (uint32_t at = 0; at < last && at < enclave->xsave_bytes; at += CORE_PAGE)
        if (probe_page(f, offset + at) == EXCEPTION)
            return EXCEPTION;
    return probe_page(f, offset + last);
}

/* The checks that EENTER and ERESUME share, beyond those on the TCS page itself. */
static int check_enclave(struct core_frame *f) {
    const struct core_enclave *enclave = f->enclave;
    const struct core_tcs *tcs = f->tcs;
    bool notify = enclave->attributes & ATTRIBUTES_AEXNOTIFY;

    if (!enclave->enabled || enclave->xfrm & ~core_xcr0())
        return protection_fault(f);
    if (tcs->flags & ~(uint64_t)(CORE_TCS_DBGOPTIN | CORE_TCS_AEXNOTIFY))
        return protection_fault(f);
    if (notify != !!(tcs->flags & CORE_TCS_AEXNOTIFY) && !(tcs->flags & CORE_TCS_DBGOPTIN))
        return protection_fault(f);
    return ENTERED;
}

static int enter_at_entry_point(struct core_frame *f) {
    struct core_enclave *enclave = f->enclave;
    struct core_tcs *tcs = f->tcs;
    uint64_t at = core_frame_offset(enclave, tcs, tcs->cssa);
    uint64_t target = enclave->base + tcs->oentry;
    uint64_t user_stack[2] = {f->ursp, f->urbp};

    if (tcs->cssa >= tcs->nssa)
        return protection_fault(f);
    if (probe_frame(f, at) == EXCEPTION)
        return EXCEPTION;
    f->fs_base = enclave->base + tcs->ofsbase;
    f->gs_base = enclave->base + tcs->ogsbase;
    if (!canonical(target) || !canonical(f->fs_base) || !canonical(f->gs_base))
        return protection_fault(f);
    memcpy(core_gprsgx(enclave, at) + GPR_URSP, user_stack, sizeof user_stack);
    f->gpr[CORE_RAX] = tcs->cssa;
    f->gpr[CORE_RBX] = f->tcs_address;
    f->gpr[CORE_RCX] = EXIT_TARGET;
    f->gpr[CORE_RSP] = f->ursp;
    f->gpr[CORE_RBP] = f->urbp;
    f->gpr[CORE_RIP] = target;
    f->stage = STAGE_ENTER;
    return ENTERED;
}

static int resume_from_frame(struct core_frame *f) {
    struct core_enclave *enclave = f->enclave;
    struct core_tcs *tcs = f->tcs;

    if (tcs->cssa == 0)
        return protection_fault(f);
    uint64_t at = core_frame_offset(enclave, tcs, tcs->cssa - 1);
    if (probe_frame(f, at) == EXCEPTION)
        return EXCEPTION;
    if (tcs->flags & CORE_TCS_AEXNOTIFY && enclave->attributes & ATTRIBUTES_AEXNOTIFY &&
        core_gprsgx(enclave, at)[GPR_AEXNOTIFY] & 1)
        return enter_at_entry_point(f);
    if (!core_load_state(f, at))
        return protection_fault(f);
    tcs->cssa--;
    f->stage = STAGE_RESUME;
    return ENTERED;
}

/* Do EENTER or ERESUME up to the jump. On ENTERED the TCS is busy and the registers are set. */
static int admit(struct core_frame *f, uint32_t function, const uint64_t *arguments) {
    uint64_t address = f->tcs_address;
    uint32_t vector, error_code;

    if (address % CORE_PAGE)
        return protection_fault(f);
    f->tcs = core_tcs_claim(&f->enclave, address, &vector, &error_code);
    if (!f->tcs)
        return refuse(f, vector, error_code, vector == CORE_VECTOR_PF ? address : 0);
    f->xsave_mask = core_xcr0() & (XFRM_ALWAYS | f->enclave->xfrm);
    int verdict = check_enclave(f);
    if (verdict == ENTERED) {
        memcpy(f->gpr, arguments, sizeof f->gpr);
        verdict = function == CORE_EENTER ? enter_at_entry_point(f) : resume_from_frame(f);
    }
    if (verdict == EXCEPTION)
        core_tcs_set_state(f->tcs, CORE_TCS_IDLE);
    return verdict;
}

/* Tell the host that a signal handler ran. Nonzero: the host wants out. */
static int attend(struct core_frame *f) {
    if (f->thread->seen == f->thread->signals)
        return 0;
    f->thread->seen = f->thread->signals;
    return f->interrupted ? f->interrupted(f->context) : 0;
}

/* Offer an exception to the kernel model. CORE_RETRY, CORE_GIVE_UP, or CORE_DELIVER. */
static int offer(struct core_frame *f, uint32_t function, bool after_aex) {
    const struct core_enclave *enclave = f->enclave;
    uint32_t error_code = f->error_code;

    f->function = function;
    if (f->vector != CORE_VECTOR_PF)
        return CORE_DELIVER;
    if (enclave && f->address - enclave->base < enclave->size)
        f->address &= ~(uint64_t)(CORE_PAGE - 1); /* the processor hides the offset in the page */
    if (!enclave)
        return CORE_DELIVER;
    int answer = enclave->operations->fault(f->enclave, f->address, &error_code, function);
    if (answer == CORE_DELIVER && after_aex && error_code != f->error_code)
        core_set_error_code(f, error_code);
    f->error_code = error_code;
    return answer;
}

static uint32_t read_pkru(void) {
    uint32_t value, zero;
    __asm__ volatile(".byte 0x0f,0x01,0xee" : "=a"(value), "=d"(zero) : "c"(0));
    return value;
}

static void write_pkru(uint32_t value) {
    __asm__ volatile(".byte 0x0f,0x01,0xef" : : "a"(value), "c"(0), "d"(0));
}

static void go(struct core_frame *f) {
    struct core_tcs *tcs = f->tcs;
    uint64_t entries = atomic_load_explicit(&tcs->entries, memory_order_relaxed);
    atomic_store_explicit(&tcs->entries, entries + 1, memory_order_relaxed);
    atomic_store_explicit(&tcs->tid, f->thread->tid, memory_order_release);
    f->xsave = f->thread->slots[f->thread->depth];
    if (core_has_protection_keys)
        f->host_pkru = read_pkru();
    if (f->stage == STAGE_ENTER)
        core_go_enter(f);
    else
        core_go_resume(f);
    if (core_has_protection_keys && read_pkru() != f->host_pkru)
        write_pkru(f->host_pkru); /* the kernel gives each signal handler its own */
}

/* Serve an ENCLU leaf. True: the enclave goes on; else *verdict is core_enter's next step. */
static bool serve_leaf(struct core_frame *f, int *answer) {
    struct core_tcs *tcs = f->tcs;
    struct core_thread *thread = f->thread;

    core_tcs_set_state(tcs, CORE_TCS_IN_LEAF);
    thread->depth++;
    *answer = f->enclave->operations->leaf(f);
    thread->depth--;
    if (*answer != CORE_DONE || f->enclave->generation != core_generation)
        return false;
    atomic_store(&tcs->epoch, atomic_load(&f->enclave->epoch));
    core_tcs_set_state(tcs, CORE_TCS_RUNNING);
    f->stage = STAGE_LEAF;
    return true;
}

/* Undo an entry that never reached the enclave. */
static void take_back(struct core_frame *f) {
    if (f->stage == STAGE_LEAF) {
        core_aex(f, CORE_NO_VECTOR, 0, 0);
        return;
    }
    if (f->stage == STAGE_RESUME)
        f->tcs->cssa++;
    core_tcs_set_state(f->tcs, CORE_TCS_IDLE);
}

/* The end of a stay in the enclave: what core_enter does next. */
enum { NEXT_EXITED, NEXT_AGAIN, NEXT_RESUME, NEXT_FAULTED, NEXT_REFUSED, NEXT_GIVE_UP };

static int stay(struct core_frame *f) {
    int answer = CORE_DONE;
    for (;;) {
        go(f);
        switch (f->reason) {
        case CORE_REASON_LEAF:
            if (serve_leaf(f, &answer))
                continue;
            if (f->enclave->generation != core_generation)
                return NEXT_AGAIN;
            if (answer == CORE_FAULT) {
                core_aex(f, f->vector, f->error_code, f->address);
                return NEXT_FAULTED;
            }
            core_aex(f, CORE_NO_VECTOR, 0, 0);
            return NEXT_GIVE_UP;
        case CORE_REASON_STEP:
            f->stage = STAGE_LEAF;
            continue;
        case CORE_REASON_EXIT:
            core_tcs_set_state(f->tcs, CORE_TCS_IDLE);
            return NEXT_EXITED;
        case CORE_REASON_FAULT:
            core_aex(f, f->vector, f->error_code, f->address);
            return NEXT_FAULTED;
        case CORE_REASON_SIGNAL:
            return NEXT_RESUME;
        case CORE_REASON_LANDED:
            take_back(f);
            return f->stage == STAGE_LEAF ? NEXT_RESUME : NEXT_AGAIN;
        default: /* CORE_REASON_INVALID */
            protection_fault(f);
            if (f->stage == STAGE_LEAF) {
                core_aex(f, CORE_VECTOR_GP, 0, 0);
                return NEXT_FAULTED;
            }
            take_back(f);
            return NEXT_REFUSED;
        }
    }
}

/* EEXIT must go back where the enclave came from; on a processor it would run what is there. */
static int exited(struct core_frame *f) {
    f->function = CORE_EEXIT;
    f->vector = 0;
    f->error_code = 0;
    f->address = 0;
    if (f->gpr[CORE_RBX] == EXIT_TARGET)
        return ENTERED;
    return refuse(f, CORE_VECTOR_PF, CORE_PF_USER, f->gpr[CORE_RBX]);
}

static int enter(struct core_frame *f, uint32_t function) {
    uint64_t arguments[CORE_REGISTERS];
    memcpy(arguments, f->gpr, sizeof arguments);
    for (;;) {
        int next, answer = CORE_RETRY;
        bool after_aex = false;

        if (attend(f))
            return -EINTR;
        if (f->enclave && f->enclave->generation != core_generation)
            return -ENODEV; /* a callback forked, and this is the child: no enclave here */
        if (admit(f, function, arguments) == EXCEPTION) {
            next = NEXT_REFUSED;
        } else {
            next = stay(f);
        }
        switch (next) {
        case NEXT_EXITED:
            return exited(f);
        case NEXT_GIVE_UP:
            return -EINTR;
        case NEXT_RESUME:
            function = CORE_ERESUME;
            break;
        case NEXT_FAULTED:
            function = CORE_ERESUME;
            after_aex = true;
            /* fall through */
        case NEXT_REFUSED:
            answer = offer(f, function, after_aex);
            break;
        default: /* NEXT_AGAIN */
            break;
        }
        if (next == NEXT_RESUME || next == NEXT_FAULTED)
            memset(arguments, 0, sizeof arguments); /* the synthetic state that an AEX leaves */
        if (answer == CORE_GIVE_UP)
            return -EINTR;
        if (answer == CORE_DELIVER)
            return EXCEPTION;
    }
}

/* Enter the enclave of f->tcs_address with f->gpr, f->ursp and f->urbp, and stay until it exits.
 *
 * Returns 0 for EEXIT, 1 for an exception (f->function says of which leaf, f->vector which one),
 * -EINTR when the host's callbacks want out, -ENOMEM. After an exception or -EINTR the thread's
 * state is in its SSA, where function says ERESUME. */
int core_enter(struct core_frame *f, uint32_t function) {
    f->enclave = NULL;
    f->function = function;
    f->thread = core_thread_self();
    if (!f->thread || !core_reserve_slot(f->thread))
        return -ENOMEM;
    f->xsave = f->thread->slots[f->thread->depth]; /* ERESUME fills it before it goes */
    int result = enter(f, function);
    if (f->enclave)
        core_enclave_release(f->enclave);
    return result;
}

static bool reserved_is_zero(const struct core_run *run) {
    uint64_t words[sizeof run->reserved / 8], any = 0;
    memcpy(words, run->reserved, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        any |= words[i];
    return any == 0;
}

/* The C part of core_enter_enclave. Nonzero: call the user handler; else return f->result. */
int core_vdso_enter(struct core_frame *f, uint32_t function) {
    struct core_run *run = f->run;

    f->result = -EINVAL;
    if ((function != CORE_EENTER && function != CORE_ERESUME) || !reserved_is_zero(run))
        return 0;
    f->result = core_init();
    if (f->result)
        return 0;
    uint64_t frame_pointer = f->gpr[CORE_RBP];
    f->tcs_address = run->tcs;
    f->ursp = f->gpr[CORE_RSP];
    f->urbp = frame_pointer;
    f->interrupted = NULL;
    f->result = core_enter(f, function);
    if (f->result < 0)
        return 0;
    run->function = f->function;
    if (f->result == EXCEPTION) {
        run->vector = (uint16_t)f->vector;
        run->error_code = (uint16_t)f->error_code;
        run->address = f->address;
        f->gpr[CORE_RDI] = f->vector;
        f->gpr[CORE_RSI] = f->error_code;
        f->gpr[CORE_RDX] = f->address;
        f->gpr[CORE_R8] = f->gpr[CORE_R9] = 0;
        f->gpr[CORE_RSP] = f->ursp;
        f->gpr[CORE_RBP] = frame_pointer;
    }
    f->result = 0;
    return run->user_handler != 0;
}
