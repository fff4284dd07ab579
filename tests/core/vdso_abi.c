/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated enter function as a C host calls it, by the kernel's contract. */
#include "check.h"

#include <errno.h>

/* EDI 0: exit. 1: UD2. 2: ENCLU[EREPORT], then exit. 3: exit with 16 bytes pushed and RDX = RDX+1. */
__asm__(".section .rodata\n.globl enclave_code\nenclave_code:\n"
        "  mov %rcx,%rbx\n  mov $4,%eax\n"
        "  cmp $1,%edi\n  je 1f\n  cmp $2,%edi\n  je 2f\n  cmp $3,%edi\n  je 3f\n"
        "  .byte 0x0f,0x01,0xd7\n"
        "1: ud2\n"
        "2: xor %eax,%eax\n  .byte 0x0f,0x01,0xd7\n  mov $4,%eax\n  .byte 0x0f,0x01,0xd7\n"
        "3: inc %rdx\n  movq $77,-8(%rsp)\n  sub $16,%rsp\n  .byte 0x0f,0x01,0xd7\n"
        ".globl enclave_code_end\nenclave_code_end:\n.text\n");
extern const uint8_t enclave_code[], enclave_code_end[];

static const struct core_operations operations = {done_leaf, no_fault};
static struct small s;
static struct core_run run;
static int handled, answers[4];
static long seen[6];

static int handler(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct core_run *of) {
    const long now[6] = {rdi, rsi, rdx, rsp, r8, r9};
    CHECK(of == &run);
    memcpy(seen, now, sizeof seen);
    return answers[handled++];
}

static int enter(uint32_t function, uint64_t rdi, uint64_t rdx, bool with_handler) {
    uint32_t mxcsr = 0x5f80, after;
    memset(&run, 0, sizeof run);
    run.tcs = s.tcs;
    run.user_handler = with_handler ? (uint64_t)handler : 0;
    handled = 0;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    int result = core_enter_enclave(rdi, 2, rdx, function, 8, 9, &run);
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    CHECK(after == mxcsr);
    return result;
}

static void without_a_handler(void) {
    CHECK(enter(CORE_EENTER, 0, 0, false) == 0 && run.function == CORE_EEXIT);
    CHECK(enter(CORE_EENTER, 2, 0, false) == 0 && run.function == CORE_EEXIT);
    CHECK(enter(CORE_EENTER, 1, 0, false) == 0 && run.function == CORE_ERESUME);
    CHECK(run.vector == CORE_VECTOR_UD && run.error_code == 0);
    CHECK(core_tcs_set_cssa(&s.enclave, TCS, 0) == 0);
    CHECK(enter(CORE_ERESUME, 0, 0, false) == 0 && run.function == CORE_ERESUME);
    CHECK(run.vector == CORE_VECTOR_GP);
}

static void with_a_handler(void) {
    answers[0] = 0;
    CHECK(enter(CORE_EENTER, 3, 41, true) == 0);
    CHECK(handled == 1 && seen[0] == 3 && seen[1] == 2 && seen[2] == 42);
    CHECK(seen[4] == 8 && seen[5] == 9);
    CHECK(*(long *)(seen[3] + 8) == 77); /* an OCALL frame that the enclave pushed */
    answers[0] = -5;
    CHECK(enter(CORE_EENTER, 0, 0, true) == -5);
    answers[0] = 2, answers[1] = 2, answers[2] = 0; /* once more, and again */
    CHECK(enter(CORE_EENTER, 0, 0, true) == 0);
    CHECK(handled == 3);
    answers[0] = 0;
    CHECK(enter(CORE_EENTER, 1, 0, true) == 0);
    CHECK(run.function == CORE_ERESUME && seen[0] == CORE_VECTOR_UD && seen[1] == 0);
    CHECK(core_tcs_set_cssa(&s.enclave, TCS, 0) == 0);
}

static void refused(void) {
    CHECK(enter(4, 0, 0, true) == -EINVAL && handled == 0);
    CHECK(enter(1, 0, 0, true) == -EINVAL);
    memset(&run, 0, sizeof run);
    run.tcs = s.tcs;
    run.reserved[215] = 1;
    CHECK(core_enter_enclave(0, 0, 0, CORE_EENTER, 0, 0, &run) == -EINVAL);
}

static void through_the_thunk(void) {
    struct core_call call;
    CHECK(core_call_open(&call, (uint64_t)core_enter_enclave, 1 << 16) == 0);
    CHECK(core_call_enter(&call, CORE_EENTER, s.tcs, 3, 0, 0) == 0 && call.rdx == 1);
    for (int i = 0; i < 1000; i++) {
        CHECK(core_call_enter(&call, CORE_EENTER, s.tcs, 1, 0, 0) == 1);
        CHECK(core_call_enter(&call, CORE_ERESUME, s.tcs, 0, 0, call.rsp) == 1);
        CHECK(core_tcs_set_cssa(&s.enclave, TCS, 0) == 0);
    }
    core_call_close(&call);
}

int main(void) {
    small_open(&s, enclave_code, (size_t)(enclave_code_end - enclave_code), &operations);
    without_a_handler();
    with_a_handler();
    refused();
    through_the_thunk();
    small_close(&s);
    puts("ok");
    return 0;
}
