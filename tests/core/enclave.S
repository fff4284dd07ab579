/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave with no runtime: EENTER jumps to the routine whose offset is in RDI.
 * R15 keeps where to exit to, R14 CSSA. Routines take RSI, and answer in RSI. Data: DATA on. */
#define DATA 0x4000
#define ENCLU .byte 0x0f, 0x01, 0xd7

.text
.globl entry
entry:
    mov %rcx, %r15
    mov %rax, %r14
    lea entry(%rip), %rax
    add %rdi, %rax
    jmp *%rax

.globl leave
leave:
    mov %r15, %rbx
    mov $4, %eax
    ENCLU

.globl registers /* what EENTER gave: into DATA */
registers:
    lea entry+DATA(%rip), %rax
    mov %r14, (%rax)
    mov %rbx, 8(%rax)
    mov %r15, 16(%rax)
    mov %rsp, 24(%rax)
    rdfsbase %rbx
    mov %rbx, 32(%rax)
    rdgsbase %rbx
    mov %rbx, 40(%rax)
    mov %rdi, 48(%rax)
    mov %rsi, 56(%rax)
    mov $0x1111, %edi
    mov $0x2222, %esi
    mov $0x3333, %edx
    mov $0x4444, %r8d
    mov $0x5555, %r9d
    sub $64, %rsp
    jmp leave

.globl exit_to /* EEXIT to RSI */
exit_to:
    mov %rsi, %rbx
    mov $4, %eax
    ENCLU

.globl leaf /* ENCLU[ESI] with known registers; RDI: RCX after it, R8: R11, R9: 0 if XMM15 was kept */
leaf:
    mov %rsi, %rax
    mov $0xb0, %ebx
    mov $0xc0, %ecx
    mov $0xd0, %edx
    mov $0x88, %r8d
    mov $0xbb, %r11d
    movq %r8, %xmm15
    ENCLU
    mov %rax, %rsi
    mov %rcx, %rdi
    movq %xmm15, %r9
    sub %r8, %r9
    mov %r11, %r8
    jmp leave

.globl leaf_at_page_end
leaf_at_page_end: /* ENCLU in the last three bytes of a page, and no page after it */
    lea entry+DATA-3(%rip), %rbx
    xor %eax, %eax
    jmp *%rbx

.globl undefined
undefined:
    ud2
    jmp leave
.globl divide
divide:
    xor %ecx, %ecx
    xor %edx, %edx
    mov $1, %eax
    div %ecx
    jmp leave
.globl breakpoint
breakpoint:
    int3
    jmp leave
.globl software_breakpoint
software_breakpoint:
    .byte 0xcd, 0x03
    jmp leave
.globl software_overflow
software_overflow:
    .byte 0xcd, 0x04
    jmp leave
.globl software_interrupt
software_interrupt:
    int $0x20
    jmp leave
.globl old_system_call
old_system_call:
    mov $20, %eax
    int $0x80
    jmp leave
.globl system_call
system_call:
    mov $39, %eax
    syscall
    mov %rax, %rsi
    jmp leave
.globl port_in
port_in:
    inb %dx, %al
    jmp leave
.globl port_out_string
port_out_string:
    rep outsb
    jmp leave
.globl performance_counter
performance_counter:
    xor %ecx, %ecx
    rdpmc
    jmp leave
.globl privileged
privileged:
    cli
    jmp leave
.globl processor_identity
processor_identity:
    xor %eax, %eax
    cpuid
    mov %rbx, %rsi
    jmp leave
.globl not_canonical
not_canonical:
    mov $1, %esi
    shl $63, %rsi
    mov (%rsi), %rsi
    jmp leave
.globl misaligned
misaligned:
    lea entry+DATA+0x3000(%rip), %rsp
    pushfq
    orq $0x40000, (%rsp)
    popfq
    mov -15(%rsp), %rsi
    jmp leave
.globl simd
simd:
    lea entry+DATA(%rip), %rax
    movl $0x1d00, (%rax) /* divide by zero is not masked */
    ldmxcsr (%rax)
    mov $1, %ecx
    cvtsi2ss %ecx, %xmm0
    xorps %xmm1, %xmm1
    divss %xmm1, %xmm0
    jmp leave
.globl x87
x87:
    lea entry+DATA(%rip), %rax
    movw $0x037b, (%rax)
    fldcw (%rax)
    fld1
    fldz
    fdivrp
    fwait
    jmp leave
.globl single_step
single_step:
    lea entry+DATA+0x3000(%rip), %rsp
    pushfq
    orq $0x100, (%rsp)
    popfq
    nop
    jmp leave
.globl load
load:
    mov (%rsi), %rsi
    jmp leave
.globl store
store:
    movq $1, (%rsi)
    jmp leave
.globl fetch
fetch:
    jmp *%rsi
.globl bad_stack /* RSP is nothing: the host's handlers must not need it */
bad_stack:
    mov %rsp, %r13
    mov $1, %ebx
    mov %rbx, %rsp
    mov $500000, %ecx
1:  dec %rcx
    jnz 1b
    mov %r13, %rsp
    jmp leave
.globl align_flag /* exit with AC, DF and NT set */
align_flag:
    lea entry+DATA+0x3000(%rip), %rax
    mov %rsp, %r13
    mov %rax, %rsp
    pushfq
    orq $0x44400, (%rsp)
    popfq
    mov %r13, %rsp
    jmp leave

.globl spin /* until the quadword at DATA is not zero */
spin:
    lea entry+DATA(%rip), %rax
    xor %esi, %esi
1:  inc %rsi
    mov %rsi, 8(%rax)
    cmpq $0, (%rax)
    je 1b
    jmp leave
.globl count /* RSI times round, in the thread's own page */
count:
    xor %eax, %eax
    mov %rsi, %rcx
1:  incq %gs:0
    inc %rax
    dec %rcx
    jnz 1b
    mov %rax, %rsi
    jmp leave

/* Vector and general registers hold known values while the quadwords at RSI and RSI+0x1000 are read as
 * many times as DATA+8 says; then they are stored: general ones at DATA+0x100, the others from DATA+0x1000. */
#define REGISTERS 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
#define UPPER 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
#define MASKS 1,2,3,4,5,6,7
#define PATTERN(n) mov $((n+1)*0x0101010101010101), %rax

.globl touch /* read both DATA+8 times, then store the general registers */
touch:
    mov $0x1111, %eax
    mov $0x2222, %ebx
    mov $0x3333, %edx
    mov $0x4444, %ebp
    mov $0x5555, %edi
    mov $0x8888, %r8d
    mov $0x9999, %r9d
    mov $0xaaaa, %r10d
    mov $0xbbbb, %r11d
    mov $0xcccc, %r12d
    mov entry+DATA+8(%rip), %r13
    stc
1:  mov (%rsi), %rcx
    mov 0x1000(%rsi), %rcx
    dec %r13 /* keeps CF */
    jnz 1b
    mov %rax, entry+DATA+0x100(%rip)
    mov %rbx, entry+DATA+0x108(%rip)
    mov %rdx, entry+DATA+0x110(%rip)
    mov %rbp, entry+DATA+0x118(%rip)
    mov %rdi, entry+DATA+0x120(%rip)
    mov %r8, entry+DATA+0x128(%rip)
    mov %r9, entry+DATA+0x130(%rip)
    mov %r10, entry+DATA+0x138(%rip)
    mov %r11, entry+DATA+0x140(%rip)
    mov %r12, entry+DATA+0x148(%rip)
    setc entry+DATA+0x150(%rip) /* nothing above writes CF */
    ret

.globl keep_xmm
keep_xmm:
    lea entry+DATA+0x800(%rip), %rsp
.irp n, REGISTERS
    PATTERN(\n)
    movq %rax, %xmm\n
    punpcklqdq %xmm\n, %xmm\n
.endr
    call touch
    lea entry+DATA+0x1000(%rip), %rax
.irp n, REGISTERS
    movdqu %xmm\n, 64*\n(%rax)
.endr
    jmp leave

.globl keep_ymm
keep_ymm:
    lea entry+DATA+0x800(%rip), %rsp
.irp n, REGISTERS
    PATTERN(\n)
    vmovq %rax, %xmm\n
    vpbroadcastq %xmm\n, %ymm\n
.endr
    call touch
    lea entry+DATA+0x1000(%rip), %rax
.irp n, REGISTERS
    vmovdqu %ymm\n, 64*\n(%rax)
.endr
    jmp leave

.globl keep_zmm
keep_zmm:
    lea entry+DATA+0x800(%rip), %rsp
.irp n, REGISTERS,UPPER
    PATTERN(\n)
    vpbroadcastq %rax, %zmm\n
.endr
.irp n, MASKS
    PATTERN(\n)
    kmovq %rax, %k\n
.endr
    call touch
    lea entry+DATA+0x1000(%rip), %rax
.irp n, REGISTERS,UPPER
    vmovdqu64 %zmm\n, 64*\n(%rax)
.endr
.irp n, MASKS
    kmovq %k\n, %rbx
    mov %rbx, 0x800+8*\n(%rax)
.endr
    jmp leave

.globl keep_x87 /* an x87 value and control words live across the reads */
keep_x87:
    lea entry+DATA+0x800(%rip), %rsp
    movl $0x7f80, entry+DATA+16(%rip) /* round towards zero */
    ldmxcsr entry+DATA+16(%rip)
    fldpi
    call touch
    fstpt entry+DATA+0x1000(%rip)
    stmxcsr entry+DATA+0x1010(%rip)
    jmp leave
