/* SPDX-License-Identifier: Apache-2.0 */
/* What took an enclave off the processor: ENCLU, an exception, or a signal for the host. */
#include "core.h"

#include <string.h>
#include <x86intrin.h>

enum { USER_DISPATCH = 2, SYSCALL_LENGTH = 2, LONGEST_INSTRUCTION = 15 };

/* GPRSGX order to the kernel's. */
static const uint8_t register_of[CORE_REGISTERS] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8,
    REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_EFL, REG_RIP,
};

/* Did the thread itself cause the signal, rather than somebody who sent it? */
static bool is_synchronous(int signal, const siginfo_t *info) {
    switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
    case SIGSYS:
        return info->si_code > 0;
    default:
        return false;
    }
}

static bool canonical(uint64_t address) {
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* The instruction's bytes as far as they lie in the enclave: through the alias, for its page may
 * be execute-only and the next one absent. */
static size_t code_at(const struct core_enclave *enclave, uint64_t rip, const uint8_t **code) {
    uint64_t offset = rip - enclave->base;
    if (offset >= enclave->size)
        return 0;
    *code = enclave->alias + offset;
    uint64_t left = enclave->size - offset;
    return left < LONGEST_INSTRUCTION ? left : LONGEST_INSTRUCTION;
}

static bool is_prefix(uint8_t byte) {
    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return byte >= 0x40 && byte <= 0x4f; /* REX */
    }
}

/* Two-byte opcodes that are illegal in an enclave; `next` is the ModRM byte. */
static bool is_illegal_0f(uint8_t opcode, uint8_t next) {
    uint8_t extension = next >> 3 & 7;
    bool memory = next >> 6 != 3;

    switch (opcode) {
    case 0x00: /* SLDT, STR */
        return extension <= 1;
    case 0x01: /* SGDT, SIDT, SMSW, VMCALL, VMFUNC */
        return (memory && extension <= 1) || extension == 4 || next == 0xc1 || next == 0xd4;
    case 0x05: /* SYSCALL */
    case 0x33: /* RDPMC */
    case 0x34: /* SYSENTER */
    case 0x37: /* GETSEC */
    case 0xa1: /* POP FS */
    case 0xa2: /* CPUID */
    case 0xa9: /* POP GS */
    case 0xb2: /* LSS */
    case 0xb4: /* LFS */
    case 0xb5: /* LGS */
        return true;
    default:
        return false;
    }
}

/* Is this one of the instructions that an enclave answers with #UD (table "Illegal Instructions
 * Inside an Enclave")? Outside, in user mode, most of them answer #GP. */
bool core_is_illegal(const uint8_t *code, size_t length) {
    size_t at = 0;
    while (at < length && is_prefix(code[at]))
        at++;
    if (at >= length)
        return false;
    uint8_t opcode = code[at], next = at + 1 < length ? code[at + 1] : 0;
    uint8_t extension = next >> 3 & 7;
    if (opcode == 0x0f)
        return at + 1 < length && is_illegal_0f(next, at + 2 < length ? code[at + 2] : 0);
    if (opcode == 0xff) /* far CALL and JMP */
        return next >> 6 != 3 && (extension == 3 || extension == 5);
    return (opcode >= 0x6c && opcode <= 0x6f) || /* INS, OUTS */
           (opcode >= 0xe4 && opcode <= 0xe7) || (opcode >= 0xec && opcode <= 0xef) || /* IN, OUT */
           opcode == 0xca || opcode == 0xcb || opcode == 0xcf || /* far RET, IRET */
           opcode == 0xcd || opcode == 0x8e; /* INT n, MOV to a segment register */
}

static void report(struct core_frame *f, uint32_t vector, uint32_t error_code, uint64_t address) {
    f->reason = CORE_REASON_FAULT;
    f->vector = vector;
    f->error_code = error_code;
    f->address = address;
}

/* INT3 is a fault in an enclave; the two-byte form is not allowed there. */
static void report_breakpoint(struct core_frame *f) {
    const uint8_t *code;
    uint64_t rip = f->gpr[CORE_RIP] - 1;

    if (code_at(f->enclave, rip, &code) && *code == 0xcc) {
        f->gpr[CORE_RIP] = rip;
        report(f, CORE_VECTOR_BP, 0, 0);
        return;
    }
    f->gpr[CORE_RIP] -= 2;
    report(f, CORE_VECTOR_UD, 0, 0);
}

/* ENCLU is an undefined opcode to the host. Some hypervisors take four times as long for that
 * exception as for #GP; there, an ENCLU that has been executed once becomes HLT and two bytes that
 * tell it from others: privileged, so it faults for certain, and read as ENCLU ever after. */
bool core_rewrites_enclu;
enum { ENCLU_LENGTH = 3, ENCLU_FIRST = 0x0f, HLT = 0xf4 };

static bool is_enclu(const uint8_t *code, size_t length) {
    return length >= ENCLU_LENGTH && (code[0] == ENCLU_FIRST || code[0] == HLT) &&
           code[1] == 0x01 && code[2] == 0xd7;
}

static uint64_t cost_of(void (*raise)(void)) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = __rdtsc();
        raise();
        uint64_t spent = __rdtsc() - before;
        if (spent < least)
            least = spent;
    }
    return least;
}

/* The handlers are in place: see what the host's exceptions cost. */
void core_trap_init(void) {
    core_rewrites_enclu = cost_of(core_raise_ud) > 2 * cost_of(core_raise_gp);
}

static void report_enclu(struct core_frame *f, const uint8_t *code) {
    if (core_rewrites_enclu)
        f->enclave->alias[code - f->enclave->alias] = HLT;
    f->leaf = (uint32_t)f->gpr[CORE_RAX];
    f->reason = CORE_REASON_LEAF;
    if (f->leaf != CORE_EEXIT)
        return;
    f->reason = CORE_REASON_EXIT;
    if (!canonical(f->gpr[CORE_RBX]))
        report(f, CORE_VECTOR_GP, 0, 0);
}

/* Turn what the host's processor raised into what an enclave would have seen. */
static void classify(struct core_frame *f, int signal, const siginfo_t *info, const greg_t *regs) {
    const uint8_t *code = NULL;
    size_t length = code_at(f->enclave, f->gpr[CORE_RIP], &code);
    uint32_t vector = (uint32_t)regs[REG_TRAPNO];

    if (signal == SIGSYS) {
        f->gpr[CORE_RIP] -= SYSCALL_LENGTH;
        /* out of ELRANGE no instruction can be fetched, so there was none */
        bool inside = f->gpr[CORE_RIP] - f->enclave->base < f->enclave->size;
        report(f, inside ? CORE_VECTOR_UD : CORE_VECTOR_GP, 0, 0);
    } else if (signal == SIGTRAP && info->si_code == SI_KERNEL && vector == CORE_VECTOR_BP) {
        report_breakpoint(f);
    } else if (length == 0) {
        report(f, CORE_VECTOR_GP, 0, 0);
    } else if (vector == CORE_VECTOR_DB && f->gpr[CORE_RFLAGS] & CORE_RFLAGS_TF &&
               !(f->tcs->flags & CORE_TCS_DBGOPTIN)) {
        f->gpr[CORE_RFLAGS] &= ~(uint64_t)CORE_RFLAGS_TF; /* POPF could not have set it */
        f->reason = CORE_REASON_STEP;
    } else if (vector == CORE_VECTOR_UD || vector == CORE_VECTOR_GP) {
        if (is_enclu(code, length))
            report_enclu(f, code);
        else if (vector == CORE_VECTOR_UD || core_is_illegal(code, length))
            report(f, CORE_VECTOR_UD, 0, 0);
        else
            report(f, CORE_VECTOR_GP, (uint32_t)regs[REG_ERR], 0);
    } else if (vector == CORE_VECTOR_OF) { /* INT 4: its gate is open to user mode */
        f->gpr[CORE_RIP] -= 2;
        report(f, CORE_VECTOR_UD, 0, 0);
    } else if (vector == CORE_VECTOR_PF) {
        report(f, vector, (uint32_t)regs[REG_ERR], (uint64_t)regs[REG_CR2]);
    } else {
        report(f, vector, (uint32_t)regs[REG_ERR], 0);
    }
}

/* Make the handler's return go to core_leave, with the host's registers: what an asynchronous exit
 * pointer is to the processor. The signal's host handler sees this state. */
static void land(struct core_frame *f, ucontext_t *context) {
    const uint64_t protection_keys = 1u << 9;
    greg_t *regs = context->uc_mcontext.gregs;
    uint8_t *extended = (uint8_t *)context->uc_mcontext.fpregs;

    for (int i = 0; i < CORE_REGISTERS; i++)
        regs[register_of[i]] = 0;
    regs[REG_RIP] = (greg_t)(uintptr_t)core_leave;
    regs[REG_RSP] = (greg_t)f->host_rsp;
    regs[REG_RDI] = (greg_t)(uintptr_t)f;
    regs[REG_EFL] = 0x202;
    if (!extended)
        return;
    memcpy(extended + 24, &f->host_mxcsr, sizeof f->host_mxcsr);
    uint32_t magic;
    memcpy(&magic, extended + 464, sizeof magic);
    if (magic == 0x46505853u) {
        uint64_t present;
        memcpy(&present, extended + 512, sizeof present);
        present &= protection_keys;
        memcpy(extended + 512, &present, sizeof present);
    }
}

static bool in_window(uint64_t rip) {
    return rip >= (uint64_t)core_window_begin && rip < (uint64_t)core_window_end;
}

/* On the host's FS and GS, on the alternate stack; f->enclave had the processor, or was about to
 * get it. Returns only where the host's handler has to run. */
void core_trap(int signal, siginfo_t *info, ucontext_t *context, struct core_frame *f) {
    const greg_t *regs = context->uc_mcontext.gregs;
    bool synchronous = is_synchronous(signal, info);

    if (in_window((uint64_t)regs[REG_RIP])) {
        if (synchronous) {
            f->reason = CORE_REASON_INVALID;
            core_leave(f);
        }
        f->reason = CORE_REASON_LANDED;
        land(f, context);
        core_host_signal(signal, info, context);
        return;
    }
    for (int i = 0; i < CORE_REGISTERS; i++)
        f->gpr[i] = (uint64_t)regs[register_of[i]];
    __asm__ volatile("" ::: "memory");
    if (synchronous) {
        classify(f, signal, info, regs);
        if (f->reason != CORE_REASON_EXIT)
            core_save_extended(f, (const uint8_t *)context->uc_mcontext.fpregs);
        core_leave(f);
    }
    core_save_extended(f, (const uint8_t *)context->uc_mcontext.fpregs);
    core_aex(f, CORE_NO_VECTOR, 0, 0);
    f->reason = CORE_REASON_SIGNAL;
    land(f, context);
    core_host_signal(signal, info, context);
}

/* Faults of the host's own code that the core itself has an answer to. */
bool core_host_fault(int signal, siginfo_t *info, ucontext_t *context) {
    greg_t *regs = context->uc_mcontext.gregs;
    uint64_t rip = (uint64_t)regs[REG_RIP];

    if (!is_synchronous(signal, info))
        return false;
    if (rip == (uint64_t)core_ud_access || rip == (uint64_t)core_gp_access) {
        regs[REG_RIP] += rip == (uint64_t)core_ud_access ? 2 : 1;
        return true;
    }
    if (signal != SIGSEGV && signal != SIGBUS)
        return false;
    if (rip == (uint64_t)core_probe_access) {
        regs[REG_RAX] = (greg_t)(1ull << 32 | (uint64_t)regs[REG_ERR]);
        regs[REG_RDX] = regs[REG_CR2];
        regs[REG_RIP] = (greg_t)(uintptr_t)core_probe_failed;
        return true;
    }
    if (rip == (uint64_t)core_read_access) {
        regs[REG_RIP] = (greg_t)(uintptr_t)core_read_failed;
        return true;
    }
    if (signal == SIGSEGV && regs[REG_TRAPNO] == CORE_VECTOR_GP)
        return core_host_cpuid(context);
    return false;
}

/* With CPUID faulting on, the host's own CPUID comes here: do it in its stead. */
bool core_host_cpuid(ucontext_t *context) {
    greg_t *regs = context->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)(uintptr_t)regs[REG_RIP];
    uint32_t out[4];

    if (core_read_byte(code) != 0x0f || core_read_byte(code + 1) != 0xa2)
        return false;
    if (core_set_cpuid_faulting(false) != 0)
        return false;
    core_cpuid((uint32_t)regs[REG_RAX], (uint32_t)regs[REG_RCX], out);
    core_set_cpuid_faulting(true);
    regs[REG_RAX] = out[0];
    regs[REG_RBX] = out[1];
    regs[REG_RCX] = out[2];
    regs[REG_RDX] = out[3];
    regs[REG_RIP] += 2;
    return true;
}
