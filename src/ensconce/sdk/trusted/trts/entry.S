/* SPDX-License-Identifier: Apache-2.0 */
/* The only way in, and every way out.

   At EENTER the processor has set RAX (CSSA), RBX (TCS), RCX (where the host goes on), FS and GS.
   All else is the host's: RDI and RSI are the request, the rest is thrown away. An exception while
   RSP may still be the host's is fatal: exception.c refuses addresses between the two symbols
   tee_entry_start and tee_entry_end. */
#include "offsets.h"

    .section .text.entry,"ax",@progbits
    .hidden tee_entry_start, tee_entry_end, tee_xfrm, tee_enter
    .globl tee_entry_start
tee_entry_start:

/* Every state component that XFRM allows goes to its initial value, MXCSR to all masked and all
   flags set, so that neither side's values show or steer (timing included) on the other.
   Changes RAX and RDX. */
    .macro SANITISE_EXTENDED_STATE
    mov     tee_xfrm(%rip), %eax
    mov     tee_xfrm+4(%rip), %edx
    xrstor64 clean_state(%rip)
    lfence
    .endm

/* All that EEXIT would show: only RBX (target), RDI and RSI carry meaning. */
    .macro EXIT_ENCLAVE
    xor     %ecx, %ecx
    xor     %edx, %edx
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    xor     %r12d, %r12d
    xor     %r13d, %r13d
    xor     %r14d, %r14d
    xor     %r15d, %r15d
    cld
    mov     $LEAF_EEXIT, %eax
    add     %edx, %edx
    enclu
    ud2
    .endm

    .globl enclave_entry
    .type enclave_entry, @function
enclave_entry:
    .cfi_startproc
    .cfi_undefined rip
    xor     %edx, %edx
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    xor     %r12d, %r12d
    xor     %r13d, %r13d
    xor     %r14d, %r14d
    xor     %r15d, %r15d
    cld
    mov     %rax, %r12                  /* CSSA */
    test    %rax, %rax
    jnz     1f
    mov     %gs:TD_LAST_SP, %rax
    test    %rax, %rax
    jnz     2f
    lea     -(GUARD_SIZE + STATIC_STACK_SIZE)(%rbx), %rax   /* a TCS that was never used */
    jmp     2f
1:  lea     -GUARD_SIZE(%rbx), %rax
2:  xchg    %rax, %rsp
    push    %rcx                        /* sgx_ocfree and OCALLs read these three by offset */
    push    %rbp
    mov     %rsp, %rbp
    push    %rax
    pushfq                              /* the host may not turn our unaligned accesses to #AC */
    andq    $~0x40000, (%rsp)
    popfq
    and     $-16, %rsp
    SANITISE_EXTENDED_STATE
    mov     %rbx, %rdx
    mov     %r12, %rcx
    movslq  %edi, %rdi
    call    tee_enter
1:  mov     %eax, %esi
    SANITISE_EXTENDED_STATE
    mov     $OCMD_ERET, %rdi
    mov     -8(%rbp), %rdx
    mov     %rbp, %rsp
    pop     %rbp
    pop     %rbx
    mov     %rdx, %rsp
    EXIT_ENCLAVE

/* _Noreturn void tee_leave(int status): return from enclave_entry, as if the root ECALL had. Its
   frame is at the very start of the stack. */
    .globl tee_leave
    .hidden tee_leave
tee_leave:
    mov     %gs:TD_STACK_BASE, %rbp
    mov     %rbp, %gs:TD_LAST_SP
    sub     $16, %rbp
    mov     %edi, %eax
    jmp     1b
    .cfi_endproc
    .size enclave_entry, .-enclave_entry

/* int tee_ocall(uint64_t index, void *ms): leave for an OCALL. Its return is tee_oret. */
    .globl tee_ocall
    .hidden tee_ocall
    .type tee_ocall, @function
tee_ocall:
    .cfi_startproc
    push    %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    mov     %rsp, %rbp
    .cfi_def_cfa_register rbp
    sub     $OCALL_CONTEXT_SIZE, %rsp
    and     $-16, %rsp
    mov     %rdi, OC_INDEX(%rsp)
    mov     %rdi, OC_RDI(%rsp)
    mov     %rsi, OC_RSI(%rsp)
    mov     %rbx, OC_RBX(%rsp)
    mov     %rbp, OC_RBP(%rsp)
    mov     %r12, OC_R12(%rsp)
    mov     %r13, OC_R13(%rsp)
    mov     %r14, OC_R14(%rsp)
    mov     %r15, OC_R15(%rsp)
    movq    $OCALL_FLAG, OC_FLAG(%rsp)
    movq    $0, OC_FLOAT_CONTROL(%rsp)
    stmxcsr OC_FLOAT_CONTROL(%rsp)      /* the calling convention keeps the control words only */
    fnstcw  OC_FLOAT_CONTROL+4(%rsp)
    mov     %gs:TD_LAST_SP, %rcx
    mov     %rcx, OC_PREVIOUS_SP(%rsp)
    mov     $1, %eax
    cmp     %rcx, %gs:TD_STACK_BASE
    je      1f
    add     OC_DEPTH(%rcx), %rax
1:  mov     %rax, OC_DEPTH(%rsp)
    mov     %rsp, %gs:TD_LAST_SP
    mov     -8(%rcx), %rbx              /* where this ECALL's host waits */
    mov     %gs:TD_FIRST_SSA_GPR, %r12
    SANITISE_EXTENDED_STATE
    mov     SSA_URBP(%r12), %rbp
    mov     SSA_URSP(%r12), %rsp
    EXIT_ENCLAVE
    .cfi_endproc
    .size tee_ocall, .-tee_ocall

/* _Noreturn void tee_oret(struct ocall_context *context, int status): return from tee_ocall.
   thread_data.last_sp is already the outer entry's. */
    .globl tee_oret
    .hidden tee_oret
    .type tee_oret, @function
tee_oret:
    .cfi_startproc
    mov     %rdi, %rsp
    mov     %esi, %eax
    ldmxcsr OC_FLOAT_CONTROL(%rsp)
    fldcw   OC_FLOAT_CONTROL+4(%rsp)
    mov     OC_RBX(%rsp), %rbx
    mov     OC_R12(%rsp), %r12
    mov     OC_R13(%rsp), %r13
    mov     OC_R14(%rsp), %r14
    mov     OC_R15(%rsp), %r15
    mov     OC_RBP(%rsp), %rsp
    pop     %rbp
    ret
    .cfi_endproc
    .size tee_oret, .-tee_oret
    .globl tee_entry_end
tee_entry_end:

/* Phase two of an exception: ERESUME comes here in place of the faulting instruction, RDI = the
   sgx_exception_info_t on this stack. The interrupted code's extended state is in it. */
    .text
    .hidden tee_second_phase, tee_handle_exception
    .globl tee_second_phase
    .type tee_second_phase, @function
tee_second_phase:
    .cfi_startproc
    mov     %rdi, %rbx
    SANITISE_EXTENDED_STATE
    mov     %rsp, %rbp
    and     $-16, %rsp
    call    tee_handle_exception        /* returns only when execution shall go on */
    mov     tee_xfrm(%rip), %eax
    mov     tee_xfrm+4(%rip), %edx
    xrstor64 EXCEPTION_INFO_SIZE(%rbx)
    /* The last four registers go through memory below the red zone of the stack we go back to,
       which tee_handle_exception has seen to be above the info: nothing read later is under it. */
    mov     CX_RSP(%rbx), %rcx
    sub     $RED_ZONE+32, %rcx
    mov     CX_RIP(%rbx), %rax
    mov     %rax, 24(%rcx)
    mov     CX_RFLAGS(%rbx), %rax
    mov     %rax, 16(%rcx)
    mov     CX_RCX(%rbx), %rax
    mov     %rax, 8(%rcx)
    mov     CX_RBX(%rbx), %rax
    mov     %rax, (%rcx)
    mov     CX_RAX(%rbx), %rax
    mov     CX_RDX(%rbx), %rdx
    mov     CX_RBP(%rbx), %rbp
    mov     CX_RSI(%rbx), %rsi
    mov     CX_RDI(%rbx), %rdi
    mov     CX_R8(%rbx), %r8
    mov     CX_R9(%rbx), %r9
    mov     CX_R10(%rbx), %r10
    mov     CX_R11(%rbx), %r11
    mov     CX_R12(%rbx), %r12
    mov     CX_R13(%rbx), %r13
    mov     CX_R14(%rbx), %r14
    mov     CX_R15(%rbx), %r15
    mov     %rcx, %rsp
    pop     %rbx
    pop     %rcx
    popfq
    ret     $RED_ZONE
    .cfi_endproc
    .size tee_second_phase, .-tee_second_phase

/* int tee_ereport(const sgx_target_info_t *, const sgx_report_data_t *, sgx_report_t *): 0, or 1
   when the instruction faulted: exception.c then sets CF and steps over it. */
    .globl tee_ereport, tee_ereport_enclu
    .hidden tee_ereport, tee_ereport_enclu
    .type tee_ereport, @function
tee_ereport:
    .cfi_startproc
    push    %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset rbx, -16
    mov     %rdi, %rbx
    mov     %rsi, %rcx
    mov     $LEAF_EREPORT, %eax
    clc
tee_ereport_enclu:
    enclu
    setc    %al
    movzbl  %al, %eax
    pop     %rbx
    ret
    .cfi_endproc
    .size tee_ereport, .-tee_ereport

/* int tee_egetkey(const sgx_key_request_t *, sgx_key_128bit_t *): 0, or the leaf's error code. */
    .globl tee_egetkey
    .hidden tee_egetkey
    .type tee_egetkey, @function
tee_egetkey:
    .cfi_startproc
    push    %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset rbx, -16
    mov     %rdi, %rbx
    mov     %rsi, %rcx
    mov     $LEAF_EGETKEY, %eax
    enclu
    jz      1f                          /* ZF: RAX is the error */
    xor     %eax, %eax
1:  pop     %rbx
    ret
    .cfi_endproc
    .size tee_egetkey, .-tee_egetkey

/* An XSAVE area in the standard format whose header says that every component has its initial
   value; MXCSR alone is always taken from memory (SDM vol. 1, 13.8). */
    .section .rodata.clean_state,"a",@progbits
    .balign 64
clean_state:
    .zero   24
    .long   0x1fbf
    .zero   512 + 64 - 28

/* Room for the signer's metadata. The name is 13 bytes and the room follows at once, unaligned:
   that is where signing tools look for it. */
    .section .note.sgxmeta,"",@note
    .balign 4
    .long   2f - 1f
    .long   3f - 2f
    .long   1
1:  .asciz  "sgx_metadata"
2:  .zero   0x6000
3:  .balign 4

    .section .note.GNU-stack,"",@progbits
