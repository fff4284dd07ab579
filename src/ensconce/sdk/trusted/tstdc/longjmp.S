/* SPDX-License-Identifier: Apache-2.0 */
/* Go back to a setjmp of musl's, whose buffer holds RBX, RBP, R12 to R15, RSP and where to go. The
   libc's own would jump through memory, where load value injection (CVE-2020-0551) can steer it. */
    .text
    .globl  longjmp, _longjmp
    .type   longjmp, @function
    .type   _longjmp, @function
longjmp:
_longjmp:
    mov     (%rdi), %rbx
    mov     8(%rdi), %rbp
    mov     16(%rdi), %r12
    mov     24(%rdi), %r13
    mov     32(%rdi), %r14
    mov     40(%rdi), %r15
    mov     48(%rdi), %rsp
    mov     56(%rdi), %rdx
    mov     $1, %eax                    /* setjmp cannot return 0 a second time */
    test    %esi, %esi
    cmovnz  %esi, %eax
    lfence
    jmp     *%rdx
    .size   longjmp, .-longjmp
    .size   _longjmp, .-_longjmp

    .section .note.GNU-stack,"",@progbits
