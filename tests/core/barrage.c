/* SPDX-License-Identifier: Apache-2.0 */
/* Signals as fast as another thread can send them, into a thread that enters, is served leaves,
 * faults and exits all the time: none may find the host's state missing, or spoil the enclave's.
 * Argument: rounds. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

/* EDI: a count. RBX holds a sum over leaves and 100 turns of a loop each; ends by EEXIT. */
__asm__(".section .rodata\n.globl enclave_code\nenclave_code:\n"
        "  mov %rcx,%r15\n  xor %esi,%esi\n  movq %rsi,%xmm9\n  mov $7,%r8d\n"
        "1: mov $100,%ecx\n"
        "2: inc %rsi\n  movq %xmm9,%rax\n  inc %rax\n  movq %rax,%xmm9\n  dec %ecx\n  jnz 2b\n"
        "  xor %eax,%eax\n  .byte 0x0f,0x01,0xd7\n"
        "  mov %gs:0,%rax\n" /* the page that the fault handler mends */
        "  dec %edi\n  jnz 1b\n"
        "  movq %xmm9,%rdx\n  mov %r15,%rbx\n  mov $4,%eax\n  .byte 0x0f,0x01,0xd7\n"
        ".globl enclave_code_end\nenclave_code_end:\n.text\n");
extern const uint8_t enclave_code[], enclave_code_end[];

static struct small s;
static pthread_t target;
static _Atomic bool done;
static _Thread_local volatile uint64_t rung; /* on the host's FS, or not at all */
static uint64_t leaves, mended, asked;

static void ring(int signal, siginfo_t *info, void *context) {
    const ucontext_t *at = context;
    uint64_t rip = (uint64_t)at->uc_mcontext.gregs[REG_RIP];
    CHECK(signal == SIGUSR1 && info->si_signo == SIGUSR1);
    CHECK(rip - s.base >= SIZE); /* a handler never sees the enclave's registers */
    CHECK(pthread_self() == target);
    rung++;
}

static int serve(struct core_frame *f) {
    leaves++;
    CHECK(f->gpr[CORE_RSI] == 100 * leaves && f->gpr[CORE_R8] == 7);
    CHECK(core_memory_protect(&s.memory, DATA, CORE_PAGE, leaves % 3 ? 3 : 0) == 0);
    return done_leaf(f);
}

static int mend(struct core_enclave *enclave, uint64_t address, uint32_t *error_code,
                uint32_t function) {
    (void)enclave, (void)error_code;
    CHECK(address == s.base + DATA && function == CORE_ERESUME);
    mended++;
    CHECK(core_memory_protect(&s.memory, DATA, CORE_PAGE, 3) == 0);
    return CORE_RETRY;
}

static int interrupted(void *context) {
    (void)context;
    asked++;
    return 0;
}

static void *send(void *unused) {
    while (!done)
        pthread_kill(target, SIGUSR1);
    return unused;
}

int main(int count, char **arguments) {
    static const struct core_operations operations = {serve, mend};
    struct sigaction action = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO};
    struct core_tcs tcs = {.offset = TCS, .ossa = SSA, .nssa = 3, .ogsbase = DATA};
    struct core_call call;
    pthread_t sender;
    long rounds = count > 1 ? atol(arguments[1]) : 2000;

    small_open(&s, enclave_code, (size_t)(enclave_code_end - enclave_code), &operations);
    CHECK(core_tcs_set(&s.enclave, &tcs) == 0);
    CHECK(core_call_open(&call, (uint64_t)core_enter_enclave, 1 << 16) == 0);
    call.interrupted = interrupted;
    target = pthread_self();
    CHECK(core_sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pthread_create(&sender, NULL, send, NULL) == 0);
    while (rung == 0) /* the sender has begun: on a busy machine it may not get a turn before the end */
        sched_yield();
    for (long i = 0; i < rounds || (asked == 0 && i < 1000 * rounds); i++) {
        leaves = 0;
        CHECK(core_call_enter(&call, CORE_EENTER, s.tcs, 10, 0, 0) == 0);
        CHECK(leaves == 10 && call.rsi == 1000 && call.rdx == 1000);
    }
    done = true;
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(rung > 0 && asked > 0 && mended > 0);
    core_call_close(&call);
    small_close(&s);
    puts("ok");
    return 0;
}
