/* SPDX-License-Identifier: Apache-2.0 */
/* The native core: enclave memory, entry, exit and asynchronous exit. No SGX policy, no Python. */
#ifndef ENSCONCE_CORE_H
#define ENSCONCE_CORE_H

/* The assembly in entry.c uses these as literal offsets; the static_asserts below keep them true. */
#define CORE_FRAME_RAX 0
#define CORE_FRAME_RCX 8
#define CORE_FRAME_RDX 16
#define CORE_FRAME_RBX 24
#define CORE_FRAME_RSP 32
#define CORE_FRAME_RBP 40
#define CORE_FRAME_RSI 48
#define CORE_FRAME_RDI 56
#define CORE_FRAME_R8 64
#define CORE_FRAME_R9 72
#define CORE_FRAME_R10 80
#define CORE_FRAME_R11 88
#define CORE_FRAME_R12 96
#define CORE_FRAME_R13 104
#define CORE_FRAME_R14 112
#define CORE_FRAME_R15 120
#define CORE_FRAME_RFLAGS 128
#define CORE_FRAME_RIP 136
#define CORE_FRAME_FS 144
#define CORE_FRAME_GS 152
#define CORE_FRAME_HOST_RSP 160
#define CORE_FRAME_XSAVE_MASK 168
#define CORE_FRAME_XSAVE 176
#define CORE_FRAME_IRET 184
#define CORE_FRAME_THREAD 224
#define CORE_FRAME_MXCSR 232
#define CORE_FRAME_FCW 236
#define CORE_FRAME_REASON 240
#define CORE_FRAME_RUN 248
#define CORE_FRAME_RESULT 256
#define CORE_FRAME_SIZE 448

#define CORE_THREAD_SELF 0
#define CORE_THREAD_CURRENT 8
#define CORE_THREAD_HOST_FS 16
#define CORE_THREAD_HOST_GS 24
#define CORE_THREAD_SIGNALS 32
#define CORE_THREAD_SEEN 40
#define CORE_THREAD_SELECTOR 48
#define CORE_THREAD_BLOCK 49

#define CORE_CALL_HOST_RSP 0
#define CORE_CALL_ENTER 8
#define CORE_CALL_RDI 16
#define CORE_CALL_RSI 24
#define CORE_CALL_RDX 32
#define CORE_CALL_R8 40
#define CORE_CALL_R9 48
#define CORE_CALL_RSP 56
#define CORE_CALL_RBP 64
#define CORE_CALL_RETURN 72
#define CORE_CALL_RESULT 80
#define CORE_CALL_AEP 88
#define CORE_CALL_RUN 96

#define CORE_RUN_TCS 0
#define CORE_RUN_HANDLER 24
#define CORE_RUN_DATA 32

/* An alternate stack of ours is known by its size, which nobody else would choose, and by the
 * pointer to itself that follows it. */
#define CORE_STACK_SPAN 0x3f000
#define CORE_STACK_SIZE 0x3eec0
#define CORE_THREAD_SLOTS 4096

/* 1 << SIGILL | SIGTRAP | SIGBUS | SIGFPE | SIGSEGV | SIGSYS */
#define CORE_FAULT_SIGNALS 0x800009b0

#define CORE_REASON_LANDED 1 /* entry was given up before the enclave ran: a signal came first */
#define CORE_REASON_INVALID 2 /* the processor refused the state that entry loads */
#define CORE_REASON_EXIT 3 /* EEXIT */
#define CORE_REASON_LEAF 4 /* another ENCLU leaf */
#define CORE_REASON_FAULT 5 /* an exception; no AEX has been done yet */
#define CORE_REASON_SIGNAL 6 /* a host signal; the AEX is done */
#define CORE_REASON_STEP 7 /* nothing that an enclave has: go on */

#ifndef __ASSEMBLER__

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#define CORE_PAGE 4096u
#define CORE_XSAVE_MAX 16384u
#define CORE_DEPTH 32 /* leaves that one thread may be serving at a time, one within another */

enum { CORE_EENTER = 2, CORE_ERESUME = 3, CORE_EEXIT = 4 };

enum {
    CORE_VECTOR_DB = 1,
    CORE_VECTOR_BP = 3,
    CORE_VECTOR_OF = 4,
    CORE_VECTOR_UD = 6,
    CORE_VECTOR_GP = 13,
    CORE_VECTOR_PF = 14,
    CORE_NO_VECTOR = 0xffff,
};

enum { CORE_TCS_DBGOPTIN = 1, CORE_TCS_AEXNOTIFY = 2, CORE_RFLAGS_TF = 1 << 8 };
enum { CORE_PF_PRESENT = 1, CORE_PF_WRITE = 2, CORE_PF_USER = 4 };

/* General registers in the order of GPRSGX, which is that of their numbers. */
enum {
    CORE_RAX,
    CORE_RCX,
    CORE_RDX,
    CORE_RBX,
    CORE_RSP,
    CORE_RBP,
    CORE_RSI,
    CORE_RDI,
    CORE_R8,
    CORE_R9,
    CORE_R10,
    CORE_R11,
    CORE_R12,
    CORE_R13,
    CORE_R14,
    CORE_R15,
    CORE_RFLAGS,
    CORE_RIP,
    CORE_REGISTERS,
};

/* struct sgx_enclave_run of the kernel's uapi. */
struct core_run {
    uint64_t tcs;
    uint32_t function;
    uint16_t vector;
    uint16_t error_code;
    uint64_t address;
    uint64_t user_handler;
    uint64_t user_data;
    uint8_t reserved[216];
};

/* The registers that one entry gives to, or took from, an enclave; kept with its bookkeeping. */
struct core_frame {
    uint64_t gpr[CORE_REGISTERS];
    uint64_t fs_base, gs_base;
    uint64_t host_rsp;
    uint64_t xsave_mask;
    uint8_t *xsave;
    uint64_t iret[5];
    struct core_thread *thread;
    uint32_t host_mxcsr;
    uint32_t host_fcw;
    uint32_t reason;
    uint32_t stage;
    struct core_run *run;
    int32_t result;
    uint32_t function;
    uint64_t tcs_address;
    uint64_t ursp, urbp;
    struct core_enclave *enclave;
    struct core_tcs *tcs;
    uint64_t address;
    uint32_t vector, error_code;
    uint32_t leaf;
    uint32_t host_pkru;
    int (*interrupted)(void *context); /* asked after a host signal; nonzero gives the entry up */
    void *context;
    uint8_t spare[104];
};

/* What a host thread needs to run enclaves; lies just above its alternate signal stack. */
struct core_thread {
    struct core_thread *self;
    struct core_frame *volatile current; /* the frame whose enclave has the processor */
    uint64_t host_fs, host_gs;
    volatile uint64_t signals; /* host signal handlers that ran on this thread */
    volatile uint64_t seen; /* `signals` when the last of them was attended to */
    volatile uint8_t selector; /* Syscall User Dispatch: 1 while an enclave runs */
    uint8_t block; /* what `selector` becomes on entry */
    int32_t tid;
    uint32_t depth;
    uint32_t generation;
    uint8_t *slots[CORE_DEPTH]; /* extended state of leaves being served */
};

enum { CORE_TCS_IDLE, CORE_TCS_RUNNING, CORE_TCS_IN_LEAF };

struct core_tcs {
    uint64_t offset; /* of the TCS page in ELRANGE */
    uint64_t flags, ossa, oentry, ofsbase, ogsbase;
    uint32_t cssa, nssa;
    bool blocked, removed;
    _Atomic uint32_t state;
    _Atomic int32_t tid;
    _Atomic uint64_t epoch; /* of the enclave when the thread inside last entered */
    _Atomic uint64_t entries;
};

enum { CORE_DONE, CORE_FAULT, CORE_ABORT }; /* answers of a leaf */
enum { CORE_DELIVER, CORE_RETRY, CORE_GIVE_UP }; /* answers to a page fault */

struct core_operations {
    /* Serve f->leaf. CORE_FAULT: with the exception in f->vector, error_code, address. */
    int (*leaf)(struct core_frame *f);
    /* The kernel's page fault handler; it may change the error code that is delivered. */
    int (*fault)(struct core_enclave *enclave, uint64_t address, uint32_t *error_code,
                 uint32_t function);
};

struct core_memory {
    uint64_t base, size;
    uint8_t *alias;
    int fd;
    bool mapped; /* at ELRANGE */
    uint32_t generation; /* of the process: memory is not inherited by a fork */
    struct core_memory *next;
};

struct core_enclave {
    uint64_t base, size;
    uint8_t *alias;
    uint32_t ssa_frame_bytes;
    uint32_t misc_select;
    uint64_t attributes, xfrm;
    uint32_t xsave_bytes;
    uint32_t generation;
    _Atomic uint64_t epoch;
    _Atomic uint32_t users;
    _Atomic bool enabled;
    struct core_tcs **tcs;
    size_t tcs_count, tcs_capacity;
    const struct core_operations *operations;
    void *owner;
    struct core_enclave *next;
};

struct core_anchor {
    uint64_t rsp, rbp, back; /* a suspended call of the vDSO function, by the stack pointer at exit */
};

/* One chain of entries on one untrusted stack. */
struct core_call {
    uint64_t host_rsp;
    uint64_t enter;
    uint64_t rdi, rsi, rdx, r8, r9, rsp, rbp, back;
    int32_t result;
    uint32_t busy;
    uint64_t aep; /* address of the ENCLU in `enter`, 0 if `enter` is not the kernel's */
    struct core_run run;
    int (*interrupted)(void *context);
    void *context;
    uint8_t *map;
    uint64_t map_size, low, high; /* the untrusted stack: its mapping with guard, and its bounds */
    uint32_t anchors;
    struct core_anchor anchor[16];
};

static_assert(CORE_FAULT_SIGNALS == (1u << SIGILL | 1u << SIGTRAP | 1u << SIGBUS | 1u << SIGFPE |
                                     1u << SIGSEGV | 1u << SIGSYS),
              "CORE_FAULT_SIGNALS");
#define CORE_AT(type, field, offset) \
    static_assert(offsetof(struct type, field) == (offset), #type "." #field)
CORE_AT(core_frame, fs_base, CORE_FRAME_FS);
CORE_AT(core_frame, host_rsp, CORE_FRAME_HOST_RSP);
CORE_AT(core_frame, xsave_mask, CORE_FRAME_XSAVE_MASK);
CORE_AT(core_frame, xsave, CORE_FRAME_XSAVE);
CORE_AT(core_frame, iret, CORE_FRAME_IRET);
CORE_AT(core_frame, thread, CORE_FRAME_THREAD);
CORE_AT(core_frame, host_mxcsr, CORE_FRAME_MXCSR);
CORE_AT(core_frame, host_fcw, CORE_FRAME_FCW);
CORE_AT(core_frame, reason, CORE_FRAME_REASON);
CORE_AT(core_frame, run, CORE_FRAME_RUN);
CORE_AT(core_frame, result, CORE_FRAME_RESULT);
CORE_AT(core_thread, current, CORE_THREAD_CURRENT);
CORE_AT(core_thread, host_fs, CORE_THREAD_HOST_FS);
CORE_AT(core_thread, host_gs, CORE_THREAD_HOST_GS);
CORE_AT(core_thread, signals, CORE_THREAD_SIGNALS);
CORE_AT(core_thread, seen, CORE_THREAD_SEEN);
CORE_AT(core_thread, selector, CORE_THREAD_SELECTOR);
CORE_AT(core_thread, block, CORE_THREAD_BLOCK);
CORE_AT(core_call, enter, CORE_CALL_ENTER);
CORE_AT(core_call, rdi, CORE_CALL_RDI);
CORE_AT(core_call, r9, CORE_CALL_R9);
CORE_AT(core_call, rsp, CORE_CALL_RSP);
CORE_AT(core_call, rbp, CORE_CALL_RBP);
CORE_AT(core_call, back, CORE_CALL_RETURN);
CORE_AT(core_call, result, CORE_CALL_RESULT);
CORE_AT(core_call, aep, CORE_CALL_AEP);
CORE_AT(core_call, run, CORE_CALL_RUN);
CORE_AT(core_run, user_handler, CORE_RUN_HANDLER);
CORE_AT(core_run, user_data, CORE_RUN_DATA);
static_assert(sizeof(struct core_run) == 256, "struct sgx_enclave_run is 256 bytes");
static_assert(sizeof(struct core_frame) == CORE_FRAME_SIZE, "CORE_FRAME_SIZE");
static_assert(CORE_REGISTERS * 8 == CORE_FRAME_FS, "registers come first");

/* entry.c: assembly */
int core_go_enter(struct core_frame *f);
int core_go_resume(struct core_frame *f);
_Noreturn void core_leave(struct core_frame *f);
void core_signal_entry(int signal, siginfo_t *info, void *context);
void core_restorer(void);
int core_enter_enclave(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint32_t function, uint64_t r8,
                       uint64_t r9, struct core_run *run);
void core_thunk(struct core_call *call, uint32_t function);
void core_thunk_resume(struct core_call *call, uint32_t function);
void core_thunk_handler(void);
void core_thunk_leave(void);
void core_thunk_aep(void);
uint64_t core_probe(volatile void *address, uint64_t *fault_address);
int core_read_byte(const volatile void *address);
void core_raise_ud(void);
void core_raise_gp(void);
extern const uint8_t core_window_begin[], core_window_end[], core_exempt_begin[], core_exempt_end[];
extern const uint8_t core_probe_access[], core_probe_failed[];
extern const uint8_t core_read_access[], core_read_failed[];
extern const uint8_t core_ud_access[], core_gp_access[];

/* enter.c */
int core_enter(struct core_frame *f, uint32_t function);
int core_vdso_enter(struct core_frame *f, uint32_t function);

/* state.c */
int core_state_init(void);
uint32_t core_xsave_size(uint64_t xfrm);
uint64_t core_xcr0(void);
uint64_t core_frame_offset(const struct core_enclave *enclave, const struct core_tcs *tcs,
                           uint32_t cssa);
void core_save_extended(struct core_frame *f, const uint8_t *signal_state);
void core_aex(struct core_frame *f, uint32_t vector, uint32_t error_code, uint64_t address);
bool core_load_state(struct core_frame *f, uint64_t frame_offset);
uint8_t *core_gprsgx(const struct core_enclave *enclave, uint64_t frame_offset);
void core_set_error_code(struct core_frame *f, uint32_t error_code);

/* trap.c */
extern bool core_rewrites_enclu;
void core_trap_init(void);
void core_trap(int signal, siginfo_t *info, ucontext_t *context, struct core_frame *f);
bool core_host_fault(int signal, siginfo_t *info, ucontext_t *context);
bool core_host_cpuid(ucontext_t *context);
bool core_is_illegal(const uint8_t *code, size_t length);

/* signals.c */
int core_signals_init(void);
void core_signals_refresh(void);
void core_host_signal(int signal, siginfo_t *info, void *context);
int core_kick_signal(void);
void core_signals_forked(void);
int core_sigaction(int signal, const struct sigaction *action, struct sigaction *old);
sighandler_t core_signal(int signal, sighandler_t handler);
sighandler_t core_sysv_signal(int signal, sighandler_t handler);

/* interpose.c */
void core_interpose(void);
void core_interpose_loader(const void *address_in_loader);

/* thread.c */
int core_thread_init(void);
struct core_thread *core_thread_self(void);
void core_thread_note_signal(void);
void core_thread_attend(void);
void core_thread_forked(void);
bool core_reserve_slot(struct core_thread *thread);

/* enclave.c */
int core_enclave_open(struct core_enclave *enclave, const struct core_memory *memory,
                      uint32_t ssa_frame_size, uint32_t misc_select, uint64_t attributes,
                      uint64_t xfrm, const struct core_operations *operations, void *owner);
int core_enclave_close(struct core_enclave *enclave);
void core_enclave_release(struct core_enclave *enclave);
int core_tcs_set(struct core_enclave *enclave, const struct core_tcs *tcs);
int core_tcs_remove(struct core_enclave *enclave, uint64_t offset);
int core_tcs_block(struct core_enclave *enclave, uint64_t offset, bool blocked);
int core_tcs_set_cssa(struct core_enclave *enclave, uint64_t offset, uint32_t cssa);
int core_tcs_get(struct core_enclave *enclave, uint64_t offset, struct core_tcs *out);
struct core_tcs *core_tcs_claim(struct core_enclave **enclave, uint64_t address, uint32_t *vector,
                                uint32_t *error_code);
/* The thread that has the TCS gives it up, or takes it on. */
static inline void core_tcs_set_state(struct core_tcs *tcs, uint32_t state) {
    atomic_store_explicit(&tcs->state, state, memory_order_release);
}
uint32_t core_enclave_inside_before(struct core_enclave *enclave, uint64_t epoch);
void core_enclave_kick(struct core_enclave *enclave);
void core_enclaves_forked(void);

/* call.c */
int core_call_open(struct core_call *call, uint64_t enter, uint64_t stack_size);
void core_call_close(struct core_call *call);
int core_call_enter(struct core_call *call, uint32_t function, uint64_t tcs, uint64_t rdi,
                    uint64_t rsi, uint64_t rsp);
bool core_call_at_aep(ucontext_t *context);
bool core_call_trapped(ucontext_t *context);
int core_call_interrupted(struct core_call *call);

/* memory.c */
int core_reserve(uint64_t size, uint64_t *base);
int core_release(uint64_t base, uint64_t size);
int core_memory_open(struct core_memory *memory, uint64_t base, uint64_t size);
int core_memory_protect(struct core_memory *memory, uint64_t offset, uint64_t length, int protection);
int core_memory_discard(struct core_memory *memory, uint64_t offset, uint64_t length);
void core_memory_unmap(struct core_memory *memory);
void core_memory_close(struct core_memory *memory);
void core_memories_forked(void);
int core_map_device(int fd, uint64_t address, uint64_t length, int protection, uint64_t offset);

/* measure.c */
size_t core_fill_measurement(uint8_t *out, uint64_t offset, uint64_t flags, const uint8_t *pages,
                             uint64_t count);

/* vdso.c */
uint64_t core_vdso_symbol(const char *name, uint64_t *size);
uint64_t core_vdso_aep(void);

/* platform.c */
struct core_capabilities {
    bool fsgsbase, syscall_user_dispatch, cpuid_faulting, shadow_stack, protection_keys, xsave;
};
struct core_capabilities core_capabilities(void);
void core_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
int core_set_cpuid_faulting(bool fault);
int core_init(void); /* once; 0, or a negative errno: -ENOTSUP without FSGSBASE or XSAVE */
void core_watch_forks(void);
extern bool core_has_protection_keys;
extern _Atomic uint32_t core_generation; /* one more in each forked child */

#endif
#endif
