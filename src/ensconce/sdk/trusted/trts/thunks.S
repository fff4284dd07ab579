/* SPDX-License-Identifier: Apache-2.0 */
/* Where code of gcc goes that was compiled against load value injection (CVE-2020-0551): with
   -mfunction-return=thunk-extern a function ends in a jump to __x86_return_thunk, with
   -mindirect-branch=thunk-extern calls by register go through __x86_indirect_thunk_*. Only the
   mitigated libraries have this file. Fences before returns are the assembler's. */

    .macro THUNK name:req, instruction:vararg
    .section .text.\name,"ax",@progbits
    .globl  \name
    .hidden \name
    .type   \name, @function
\name:
    .cfi_startproc
    \instruction
    .cfi_endproc
    .size   \name, .-\name
    .endm

    THUNK __x86_return_thunk, ret
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    THUNK __x86_indirect_thunk_\register, lfence; jmp *%\register
    .endr

    .section .note.GNU-stack,"",@progbits
