/* SPDX-License-Identifier: Apache-2.0 */
/* The trusted side of the vendor's entry convention, as little of it as a test needs.
 * Thread data (GS): 0 stack pointer of the last OCALL, 8 frame of the ECALL under way,
 * 16 TCS, 24 untrusted stack pointer, 32 what an exception does, 40 exceptions seen. */
#define SSA_GPR (0x2000 - 184)

    .section .text.entry, "ax"
    .globl enclave_entry
enclave_entry:
    cld
    test %rax, %rax
    jnz exception
    mov %gs:0, %rax
    test %rax, %rax
    cmovz %rbx, %rax
    cmp $-2, %rdi
    je oret
    mov %rsp, %r10
    mov %rax, %rsp
    push %r10
    push %rbp
    push %rcx
    push %gs:0
    push %gs:8
    push %gs:24
    mov %rsp, %gs:8
    mov %rbx, %gs:16
    mov %r10, %gs:24
    sub $16, %rsp
    and $-16, %rsp
    call dispatch
    mov %rax, %rsi
    mov %gs:8, %rsp
    pop %gs:24
    pop %gs:8
    pop %gs:0
    pop %rbx
    pop %rbp
    pop %rsp
    mov $-1, %rdi
leave:
    xor %ecx, %ecx
    xor %edx, %edx
    xor %r8d, %r8d
    xor %r9d, %r9d
    mov $4, %eax
    .byte 0x0f, 0x01, 0xd7
    ud2

/* long do_ocall(long number, void *ms) */
    .globl do_ocall
do_ocall:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %gs:0
    push %gs:24
    mov %rsp, %gs:0
    mov %gs:8, %rax
    mov 24(%rax), %rbx
    mov 32(%rax), %rbp
    mov %gs:24, %rsp
    jmp leave
oret:
    mov %rax, %rsp
    mov %gs:8, %rax
    mov %rcx, 24(%rax)
    pop %gs:24
    pop %gs:0
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    mov %rsi, %rax
    ret

/* With AEX-Notify the enclave goes on by itself: EDECCSSA, then the state that was saved, two
 * bytes further on. */
notified:
    incq %gs:40
    lea SSA_GPR(%rbx), %rbp
    mov $9, %eax
    .byte 0x0f, 0x01, 0xd7
    mov 32(%rbp), %rsp
    mov 136(%rbp), %rax
    add $2, %rax
    push %rax
    push 128(%rbp)
    push 40(%rbp)
    mov 0(%rbp), %rax
    mov 8(%rbp), %rcx
    mov 16(%rbp), %rdx
    mov 24(%rbp), %rbx
    mov 48(%rbp), %rsi
    mov 56(%rbp), %rdi
    mov 64(%rbp), %r8
    mov 72(%rbp), %r9
    mov 80(%rbp), %r10
    mov 88(%rbp), %r11
    mov 96(%rbp), %r12
    mov 104(%rbp), %r13
    mov 112(%rbp), %r14
    mov 120(%rbp), %r15
    pop %rbp
    popfq
    ret

exception:
    cmpq $2, %gs:32
    je notified
    mov %rsp, %r10
    lea 0x4000(%rbx), %rsp
    push %r10
    push %rbp
    push %rcx
    mov %rbx, %rdi
    mov %rax, %rsi
    call handle
    mov %rax, %rsi
    pop %rbx
    pop %rbp
    pop %rsp
    mov $-1, %rdi
    jmp leave
    .section .note.GNU-stack, "", @progbits
