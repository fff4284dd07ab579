/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the kernel's enter function, shown with a stand-in that keeps its ABI: it "exits" with
 * registers that its script gives, or "faults", and goes on when the user handler says so. */
#include "check.h"

#include <errno.h>
#include <sys/time.h>

/* The stand-in's script: what the next ENCLU does. */
uint64_t fake_rdi, fake_rsi, fake_rdx, fake_r8, fake_r9, fake_push, fake_wait, fake_trap;
uint32_t fake_leaf, fake_entries, fake_last_function;
uint64_t fake_seen_rdi, fake_seen_rsp, fake_seen_tcs, fake_seen_r9;
extern const uint8_t fake_aep[];
int fake_enter(uint64_t, uint64_t, uint64_t, uint32_t, uint64_t, uint64_t, struct core_run *);

__asm__(".text\n.globl fake_enter\nfake_enter:\n"
        "  push %rbp\n  mov %rsp,%rbp\n  push %rbx\n  mov %ecx,%eax\n"
        ".Lagain:\n"
        "  cmp $2,%eax\n  jb .Linvalid\n  cmp $3,%eax\n  ja .Linvalid\n"
        "  mov 16(%rbp),%rcx\n  mov (%rcx),%rbx\n"
        /* "ENCLU" */
        "  mov %eax,fake_last_function(%rip)\n  incl fake_entries(%rip)\n"
        "  mov %rdi,fake_seen_rdi(%rip)\n  mov %rsp,fake_seen_rsp(%rip)\n"
        "  mov %rbx,fake_seen_tcs(%rip)\n  mov %r9,fake_seen_r9(%rip)\n"
        "  mov $3,%eax\n"
        "  cmpq $0,fake_trap(%rip)\n  je fake_aep\n  int3\n" /* then RIP is the AEP */
        ".globl fake_aep\nfake_aep:\n"
        "  cmpq $0,fake_wait(%rip)\n  jne fake_aep\n"
        "  mov fake_rdi(%rip),%rdi\n  mov fake_rsi(%rip),%rsi\n  mov fake_rdx(%rip),%rdx\n"
        "  mov fake_r8(%rip),%r8\n  mov fake_r9(%rip),%r9\n"
        "  sub fake_push(%rip),%rsp\n"
        "  mov $-1,%r12\n  mov $-1,%r13\n  mov $-1,%r14\n  mov $-1,%r15\n  mov $-1,%r10\n"
        "  std\n"
        "  mov fake_leaf(%rip),%eax\n"
        "  mov 16(%rbp),%rbx\n  mov %eax,8(%rbx)\n"
        "  cmp $4,%eax\n  je 1f\n"
        "  mov %di,12(%rbx)\n  mov %si,14(%rbx)\n  mov %rdx,16(%rbx)\n"
        "1: mov %rsp,%rcx\n  mov %rbx,%rax\n  mov %rsp,%rbx\n  and $15,%rbx\n  and $-16,%rsp\n"
        "  push %rax\n  push %rax\n  cld\n"
        "  call *24(%rax)\n"
        "  lea 16(%rsp,%rbx),%rsp\n  cmp $0,%eax\n  jle .Lout\n  jmp .Lagain\n"
        ".Linvalid:\n  mov $-22,%eax\n"
        ".Lout:\n  pop %rbx\n  leave\n  ret\n");

static struct core_call call;

static int enter(uint32_t function, uint64_t rsp) {
    uint64_t kept[4] = {11, 12, 13, 14};
    uint32_t mxcsr = 0x7f80, after = 0;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    int result = core_call_enter(&call, function, 0x7000, 0xa1, 0xa2, rsp);
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    CHECK(after == mxcsr);
    CHECK(kept[0] == 11 && kept[1] == 12 && kept[2] == 13 && kept[3] == 14);
    return result;
}

static void exits(void) {
    fake_rdi = 5, fake_rsi = 6, fake_rdx = 7, fake_r8 = 8, fake_r9 = 9, fake_push = 40;
    fake_leaf = CORE_EEXIT;
    CHECK(enter(CORE_EENTER, 0) == 0);
    CHECK(fake_last_function == CORE_EENTER && fake_seen_rdi == 0xa1 && fake_seen_tcs == 0x7000);
    CHECK(call.rdi == 5 && call.rsi == 6 && call.rdx == 7 && call.r8 == 8 && call.r9 == 9);
    CHECK(call.rsp == fake_seen_rsp - 40);
    CHECK(fake_seen_rsp > call.low && fake_seen_rsp < call.high);
    CHECK(call.run.function == CORE_EEXIT && call.run.vector == 0);
}

static void ocall_and_return(void) {
    exits();
    uint64_t frame = call.rsp;
    fake_push = 0;
    CHECK(enter(CORE_EENTER, frame) == 0);
    CHECK(fake_seen_rsp < frame && fake_seen_rsp > frame - 128);
}

static void storm_of_exceptions(void) {
    fake_leaf = CORE_ERESUME;
    fake_rdi = CORE_VECTOR_PF, fake_rsi = 6, fake_rdx = 0x123000, fake_push = 24;
    CHECK(enter(CORE_EENTER, 0) == 1);
    CHECK(call.run.vector == CORE_VECTOR_PF && call.run.error_code == 6);
    CHECK(call.run.address == 0x123000 && call.run.function == CORE_ERESUME);
    uint64_t frame = call.rsp;
    fake_push = 0; /* as by AEX: RSP is URSP, which is what ERESUME set it to */
    for (int i = 0; i < 10000; i++) {
        memset((void *)(frame - 512), 0xee, 512); /* below it, nothing may be relied on */
        CHECK(enter(CORE_ERESUME, frame) == 1);
        CHECK(call.rsp == frame && fake_last_function == CORE_ERESUME && call.anchors == 1);
    }
    fake_leaf = CORE_EEXIT;
    CHECK(enter(CORE_ERESUME, frame) == 0);
}

static void nested_handler(void) {
    fake_leaf = CORE_ERESUME, fake_push = 0;
    CHECK(enter(CORE_EENTER, 0) == 1);
    uint64_t outer = call.rsp;
    CHECK(enter(CORE_EENTER, outer) == 1);
    uint64_t inner = call.rsp;
    CHECK(inner < outer && call.anchors == 2);
    fake_leaf = CORE_EEXIT;
    CHECK(enter(CORE_ERESUME, inner) == 0 && call.anchors == 1);
    CHECK(enter(CORE_ERESUME, outer) == 0 && call.anchors == 0);
}

static void refused(void) {
    struct core_call other = call;
    CHECK(enter(4, 0) == -EINVAL);
    CHECK(enter(CORE_EENTER, other.high + 8) == -ERANGE);
}

static int asked, answer;

static int interrupted(void *context) {
    CHECK(context == &asked);
    if (++asked >= 3 && !answer)
        fake_wait = 0;
    return answer;
}

static void ring(int signal) {
    (void)signal;
}

static void interrupts(void) {
    struct sigaction action = {.sa_handler = ring};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {0};

    CHECK(core_sigaction(SIGALRM, &action, NULL) == 0);
    call.aep = (uint64_t)fake_aep;
    call.interrupted = interrupted;
    call.context = &asked;
    setitimer(ITIMER_REAL, &often, NULL);
    fake_leaf = CORE_EEXIT, fake_push = 8, fake_wait = 1, answer = 0;
    CHECK(enter(CORE_EENTER, 0) == 0);
    CHECK(asked >= 3 && call.rsp == fake_seen_rsp - 8);
    fake_wait = 1, answer = -1;
    CHECK(enter(CORE_EENTER, 0) == -EINTR);
    setitimer(ITIMER_REAL, &never, NULL);
}

static void breakpoint(void) {
    call.aep = (uint64_t)fake_aep;
    fake_trap = 1;
    CHECK(enter(CORE_EENTER, 0) == 1);
    CHECK(call.run.function == CORE_ERESUME && call.run.vector == CORE_VECTOR_BP);
    CHECK(call.rsp == fake_seen_rsp && call.anchors == 0);
    fake_trap = 0, fake_leaf = CORE_EEXIT;
    CHECK(enter(CORE_ERESUME, call.rsp) == 0);
}

int main(void) {
    CHECK(core_init() == 0);
    CHECK(core_call_open(&call, (uint64_t)fake_enter, 1 << 16) == 0);
    exits();
    ocall_and_return();
    storm_of_exceptions();
    nested_handler();
    refused();
    breakpoint();
    interrupts();
    core_call_close(&call);
    puts("ok");
    return 0;
}
