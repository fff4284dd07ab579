/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions by which a thread gets into and out of an enclave.
 *
 * Enclave code runs on the enclave's own FS and GS, so no C function may run between
 * core_window_begin and core_window_end, nor before core_signal_entry has put the host's back. */
#include "core.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define AT(field) TEXT(CORE_##field)
#define FUNCTION(name) ".globl " name "\n.hidden " name "\n.type " name ",@function\n" name ":\n"
#define LABEL(name) ".globl " name "\n.hidden " name "\n" name ":\n"

/* Both take the frame in %rdi and return through core_leave with the reason in %eax. What follows
 * the test of `signals` is a window in which an arriving signal cancels the entry: so no signal
 * falls between the host's last look at its flags and an enclave that never returns. */
#define GO_BEGIN                                  \
    "  push %rbp\n"                               \
    "  push %rbx\n"                               \
    "  push %r12\n"                               \
    "  push %r13\n"                               \
    "  push %r14\n"                               \
    "  push %r15\n"                               \
    "  mov %rsp," AT(FRAME_HOST_RSP) "(%rdi)\n"   \
    "  stmxcsr " AT(FRAME_MXCSR) "(%rdi)\n"       \
    "  fnstcw " AT(FRAME_FCW) "(%rdi)\n"          \
    "  mov " AT(FRAME_THREAD) "(%rdi),%rsi\n"     \
    "  rdfsbase %rax\n"                           \
    "  mov %rax," AT(THREAD_HOST_FS) "(%rsi)\n"   \
    "  rdgsbase %rax\n"                           \
    "  mov %rax," AT(THREAD_HOST_GS) "(%rsi)\n"

#define GO_WINDOW                                 \
    "  mov %rdi," AT(THREAD_CURRENT) "(%rsi)\n"   \
    "  mov " AT(THREAD_SIGNALS) "(%rsi),%rax\n"   \
    "  cmp " AT(THREAD_SEEN) "(%rsi),%rax\n"      \
    "  jne .Lgo_cancelled\n"                      \
    "  mov " AT(THREAD_BLOCK) "(%rsi),%al\n"      \
    "  mov %al," AT(THREAD_SELECTOR) "(%rsi)\n"

#define GO_REGISTERS                              \
    "  mov " AT(FRAME_FS) "(%rdi),%rax\n"         \
    "  wrfsbase %rax\n"                           \
    "  mov " AT(FRAME_GS) "(%rdi),%rax\n"         \
    "  wrgsbase %rax\n"                           \
    "  mov " AT(FRAME_RAX) "(%rdi),%rax\n"        \
    "  mov " AT(FRAME_RCX) "(%rdi),%rcx\n"        \
    "  mov " AT(FRAME_RDX) "(%rdi),%rdx\n"        \
    "  mov " AT(FRAME_RBX) "(%rdi),%rbx\n"        \
    "  mov " AT(FRAME_RBP) "(%rdi),%rbp\n"        \
    "  mov " AT(FRAME_RSI) "(%rdi),%rsi\n"        \
    "  mov " AT(FRAME_R8) "(%rdi),%r8\n"          \
    "  mov " AT(FRAME_R9) "(%rdi),%r9\n"          \
    "  mov " AT(FRAME_R10) "(%rdi),%r10\n"        \
    "  mov " AT(FRAME_R11) "(%rdi),%r11\n"        \
    "  mov " AT(FRAME_R12) "(%rdi),%r12\n"        \
    "  mov " AT(FRAME_R13) "(%rdi),%r13\n"        \
    "  mov " AT(FRAME_R14) "(%rdi),%r14\n"        \
    "  mov " AT(FRAME_R15) "(%rdi),%r15\n"

__asm__(".text\n"
        FUNCTION("core_go_enter")
        GO_BEGIN
        "  jmp .Lenter_window\n"
        FUNCTION("core_go_resume")
        GO_BEGIN
        "  mov %cs,%eax\n"
        "  mov %rax," TEXT(CORE_FRAME_IRET + 8) "(%rdi)\n"
        "  mov %ss,%eax\n"
        "  mov %rax," TEXT(CORE_FRAME_IRET + 32) "(%rdi)\n"
        "  mov " AT(FRAME_RIP) "(%rdi),%rax\n"
        "  mov %rax," TEXT(CORE_FRAME_IRET) "(%rdi)\n"
        "  mov " AT(FRAME_RFLAGS) "(%rdi),%rax\n"
        "  mov %rax," TEXT(CORE_FRAME_IRET + 16) "(%rdi)\n"
        "  mov " AT(FRAME_RSP) "(%rdi),%rax\n"
        "  mov %rax," TEXT(CORE_FRAME_IRET + 24) "(%rdi)\n"
        LABEL("core_window_begin")
        GO_WINDOW
        "  mov " AT(FRAME_XSAVE) "(%rdi),%rcx\n"
        "  mov " AT(FRAME_XSAVE_MASK) "(%rdi),%eax\n"
        "  mov " TEXT(CORE_FRAME_XSAVE_MASK + 4) "(%rdi),%edx\n"
        "  xrstor64 (%rcx)\n"
        GO_REGISTERS
        "  lea " AT(FRAME_IRET) "(%rdi),%rsp\n"
        "  mov " AT(FRAME_RDI) "(%rdi),%rdi\n"
        "  iretq\n"
        ".Lenter_window:\n"
        GO_WINDOW
        GO_REGISTERS
        /* the word under the untrusted stack pointer is free: every register is the enclave's */
        "  mov " AT(FRAME_RSP) "(%rdi),%rsp\n"
        "  push " AT(FRAME_RIP) "(%rdi)\n"
        "  add $8,%rsp\n"
        "  mov " AT(FRAME_RDI) "(%rdi),%rdi\n"
        "  jmp *-8(%rsp)\n"
        ".Lgo_cancelled:\n"
        "  movq $0," AT(THREAD_CURRENT) "(%rsi)\n"
        LABEL("core_window_end")
        "  movl $" AT(REASON_LANDED) "," AT(FRAME_REASON) "(%rdi)\n"
        FUNCTION("core_leave")
        "  mov " AT(FRAME_HOST_RSP) "(%rdi),%rsp\n"
        "  ldmxcsr " AT(FRAME_MXCSR) "(%rdi)\n"
        "  fldcw " AT(FRAME_FCW) "(%rdi)\n"
        "  mov " AT(FRAME_REASON) "(%rdi),%eax\n"
        "  pop %r15\n"
        "  pop %r14\n"
        "  pop %r13\n"
        "  pop %r12\n"
        "  pop %rbx\n"
        "  pop %rbp\n"
        "  ret\n");

/* Every handler that the process installs starts here, on any thread, on any FS.
 * %rdi, %rsi, %rdx: signal, siginfo, ucontext (uc_stack at 16, RIP at 168). */
__asm__(".text\n"
        LABEL("core_entry_begin")
        FUNCTION("core_signal_entry")
        "  pushq $2\n" /* an enclave may have left AC or DF set */
        "  popfq\n"
        "  cmpq $" AT(STACK_SIZE) ",32(%rdx)\n"
        "  jne .Lforeign_stack\n"
        "  mov 16(%rdx),%rax\n"
        "  add $" AT(STACK_SPAN) ",%rax\n"
        "  cmp %rax," AT(THREAD_SELF) "(%rax)\n"
        "  jne .Lforeign_stack\n"
        ".Lthread_known:\n"
        "  mov " AT(THREAD_CURRENT) "(%rax),%r8\n"
        "  test %r8,%r8\n"
        "  jz core_host_signal\n"
        "  mov 168(%rdx),%r9\n"
        "  lea core_entry_begin(%rip),%r10\n"
        "  sub %r10,%r9\n"
        "  cmp $core_entry_end-core_entry_begin,%r9\n"
        "  jae .Ltrap\n"
        /* this code does not fault: then an enclave jumped into it */
        "  mov $" AT(FAULT_SIGNALS) ",%r9d\n"
        "  bt %edi,%r9d\n"
        "  jnc .Lnested\n"
        "  cmpl $0,8(%rsi)\n" /* si_code */
        "  jle .Lnested\n"
        ".Ltrap:\n"
        "  mov " AT(THREAD_HOST_FS) "(%rax),%r9\n"
        "  wrfsbase %r9\n"
        "  mov " AT(THREAD_HOST_GS) "(%rax),%r9\n"
        "  wrgsbase %r9\n"
        "  movb $0," AT(THREAD_SELECTOR) "(%rax)\n"
        "  movq $0," AT(THREAD_CURRENT) "(%rax)\n"
        "  mov %r8,%rcx\n"
        "  sub $8,%rsp\n"
        "  call core_trap\n"
        "  add $8,%rsp\n"
        "  ret\n"
        /* The signal came while this very code was taking another one out of an enclave. */
        ".Lnested:\n"
        "  push %rbx\n"
        "  push %rbp\n"
        "  push %r12\n"
        "  push %r13\n"
        "  push %r14\n"
        "  mov %rax,%rbx\n"
        "  mov %r8,%rbp\n"
        "  rdfsbase %r12\n"
        "  rdgsbase %r13\n"
        "  movzbl " AT(THREAD_SELECTOR) "(%rbx),%r14d\n"
        "  mov " AT(THREAD_HOST_FS) "(%rbx),%r9\n"
        "  wrfsbase %r9\n"
        "  mov " AT(THREAD_HOST_GS) "(%rbx),%r9\n"
        "  wrgsbase %r9\n"
        "  movb $0," AT(THREAD_SELECTOR) "(%rbx)\n"
        "  movq $0," AT(THREAD_CURRENT) "(%rbx)\n"
        "  call core_host_signal\n"
        "  mov %rbp," AT(THREAD_CURRENT) "(%rbx)\n"
        "  mov %r14b," AT(THREAD_SELECTOR) "(%rbx)\n"
        "  wrgsbase %r13\n"
        "  wrfsbase %r12\n"
        "  pop %r14\n"
        "  pop %r13\n"
        "  pop %r12\n"
        "  pop %rbp\n"
        "  pop %rbx\n"
        "  ret\n"
        /* Somebody gave this thread another alternate stack: ask the kernel who we are. */
        ".Lforeign_stack:\n"
        "  call .Lgettid\n"
        "  lea core_thread_table(%rip),%r8\n"
        "  mov %eax,%r9d\n"
        "  mov $" AT(THREAD_SLOTS) ",%ecx\n"
        ".Lnext_thread:\n"
        "  and $" AT(THREAD_SLOTS) "-1,%r9d\n"
        "  mov %r9d,%r10d\n"
        "  shl $4,%r10\n"
        "  mov (%r8,%r10),%r11d\n"
        "  test %r11d,%r11d\n"
        "  jz core_host_signal\n"
        "  inc %r9d\n"
        "  cmp %eax,%r11d\n"
        "  je .Lthread_found\n"
        "  dec %ecx\n"
        "  jnz .Lnext_thread\n"
        "  jmp core_host_signal\n"
        ".Lthread_found:\n"
        "  mov 8(%r8,%r10),%rax\n"
        "  jmp .Lthread_known\n"
        /* The only system calls that are made while SYSCALL is trapped. */
        LABEL("core_exempt_begin")
        FUNCTION("core_restorer")
        "  mov $15,%rax\n" /* rt_sigreturn, in the encoding by which unwinders know it */
        "  syscall\n"
        ".Lgettid:\n"
        "  mov $186,%eax\n"
        "  syscall\n"
        "  ret\n"
        LABEL("core_exempt_end")
        LABEL("core_entry_end"));

/* The vDSO function: struct core_run *run is the seventh argument, at 16(%rbp). The enclave gets
 * the stack pointer after the pushes, and must come back with the same frame pointer. */
__asm__(".text\n"
        FUNCTION("core_enter_enclave")
        "  push %rbp\n"
        "  mov %rsp,%rbp\n"
        "  push %rbx\n"
        "  push %r12\n"
        "  push %r13\n"
        "  push %r14\n"
        "  push %r15\n"
        "  mov %ecx,%eax\n"
        ".Lenter_again:\n"
        "  mov %rsp,%rcx\n"
        "  sub $" AT(FRAME_SIZE) ",%rsp\n"
        "  and $-64,%rsp\n"
        "  mov %rsp,%rbx\n"
        "  mov %rdx," AT(FRAME_RDX) "(%rbx)\n"
        "  mov %rcx," AT(FRAME_RSP) "(%rbx)\n"
        "  mov %rbp," AT(FRAME_RBP) "(%rbx)\n"
        "  mov %rsi," AT(FRAME_RSI) "(%rbx)\n"
        "  mov %rdi," AT(FRAME_RDI) "(%rbx)\n"
        "  mov %r8," AT(FRAME_R8) "(%rbx)\n"
        "  mov %r9," AT(FRAME_R9) "(%rbx)\n"
        "  mov %r10," AT(FRAME_R10) "(%rbx)\n"
        "  mov %r11," AT(FRAME_R11) "(%rbx)\n"
        "  mov %r12," AT(FRAME_R12) "(%rbx)\n"
        "  mov %r13," AT(FRAME_R13) "(%rbx)\n"
        "  mov %r14," AT(FRAME_R14) "(%rbx)\n"
        "  mov %r15," AT(FRAME_R15) "(%rbx)\n"
        "  mov 16(%rbp),%rcx\n"
        "  mov %rcx," AT(FRAME_RUN) "(%rbx)\n"
        "  mov %rbx,%rdi\n"
        "  mov %eax,%esi\n"
        "  call core_vdso_enter\n"
        "  test %eax,%eax\n"
        "  mov " AT(FRAME_RESULT) "(%rbx),%eax\n"
        "  jz .Lenter_return\n"
        "  mov " AT(FRAME_RUN) "(%rbx),%rax\n"
        "  mov " AT(FRAME_RBP) "(%rbx),%rbp\n"
        "  mov " AT(FRAME_RSI) "(%rbx),%rsi\n"
        "  mov " AT(FRAME_RDI) "(%rbx),%rdi\n"
        "  mov " AT(FRAME_RDX) "(%rbx),%rdx\n"
        "  mov " AT(FRAME_R8) "(%rbx),%r8\n"
        "  mov " AT(FRAME_R9) "(%rbx),%r9\n"
        "  mov " AT(FRAME_RSP) "(%rbx),%rsp\n"
        "  mov %rsp,%rcx\n"
        "  mov %rsp,%rbx\n"
        "  and $15,%ebx\n"
        "  and $-16,%rsp\n"
        "  push %rax\n"
        "  push %rax\n"
        "  call *" AT(RUN_HANDLER) "(%rax)\n"
        "  lea 16(%rsp,%rbx),%rsp\n"
        "  test %eax,%eax\n"
        "  jg .Lenter_again\n"
        ".Lenter_return:\n"
        "  lea -40(%rbp),%rsp\n"
        "  pop %r15\n"
        "  pop %r14\n"
        "  pop %r13\n"
        "  pop %r12\n"
        "  pop %rbx\n"
        "  pop %rbp\n"
        "  ret\n");

/* The thunk: call any function of the vDSO's ABI on the untrusted stack. Its user handler notes
 * the registers and leaves that stack, so nothing of ours lies on it while Python runs. */
__asm__(".text\n"
        FUNCTION("core_thunk")
        "  push %rbp\n"
        "  push %rbx\n"
        "  push %r12\n"
        "  push %r13\n"
        "  push %r14\n"
        "  push %r15\n"
        "  sub $8,%rsp\n"
        "  stmxcsr (%rsp)\n"
        "  fnstcw 4(%rsp)\n"
        "  mov %rsp," AT(CALL_HOST_RSP) "(%rdi)\n"
        "  mov %rdi,%rbx\n"
        "  mov %esi,%ecx\n"
        "  mov " AT(CALL_RSP) "(%rbx),%rsp\n"
        "  and $-16,%rsp\n"
        "  lea " AT(CALL_RUN) "(%rbx),%rax\n"
        "  push %rax\n"
        "  push %rax\n"
        "  mov " AT(CALL_ENTER) "(%rbx),%rax\n"
        "  mov " AT(CALL_RDI) "(%rbx),%rdi\n"
        "  mov " AT(CALL_RSI) "(%rbx),%rsi\n"
        "  mov " AT(CALL_RDX) "(%rbx),%rdx\n"
        "  mov " AT(CALL_R8) "(%rbx),%r8\n"
        "  mov " AT(CALL_R9) "(%rbx),%r9\n"
        "  call *%rax\n"
        "  mov %rbx,%rdi\n" /* refused before it called the handler */
        ".Lthunk_result:\n"
        "  mov %eax," AT(CALL_RESULT) "(%rdi)\n"
        ".Lthunk_return:\n"
        "  pushq $2\n"
        "  popfq\n"
        "  mov " AT(CALL_HOST_RSP) "(%rdi),%rsp\n"
        "  ldmxcsr (%rsp)\n"
        "  fldcw 4(%rsp)\n"
        "  add $8,%rsp\n"
        "  pop %r15\n"
        "  pop %r14\n"
        "  pop %r13\n"
        "  pop %r12\n"
        "  pop %rbx\n"
        "  pop %rbp\n"
        "  ret\n"
        FUNCTION("core_thunk_handler")
        "  mov 8(%rsp),%rax\n"
        "  mov " AT(RUN_DATA) "(%rax),%rax\n"
        "  mov %rdi," AT(CALL_RDI) "(%rax)\n"
        "  mov %rsi," AT(CALL_RSI) "(%rax)\n"
        "  mov %rdx," AT(CALL_RDX) "(%rax)\n"
        "  mov %rcx," AT(CALL_RSP) "(%rax)\n"
        "  mov %r8," AT(CALL_R8) "(%rax)\n"
        "  mov %r9," AT(CALL_R9) "(%rax)\n"
        "  mov %rbp," AT(CALL_RBP) "(%rax)\n"
        "  mov (%rsp),%rcx\n"
        "  mov %rcx," AT(CALL_RETURN) "(%rax)\n"
        "  movl $0," AT(CALL_RESULT) "(%rax)\n"
        "  mov %rax,%rdi\n"
        "  jmp .Lthunk_return\n"
        /* Go on in a suspended vDSO call, as if its user handler returned `function`. */
        FUNCTION("core_thunk_resume")
        "  push %rbp\n"
        "  push %rbx\n"
        "  push %r12\n"
        "  push %r13\n"
        "  push %r14\n"
        "  push %r15\n"
        "  sub $8,%rsp\n"
        "  stmxcsr (%rsp)\n"
        "  fnstcw 4(%rsp)\n"
        "  mov %rsp," AT(CALL_HOST_RSP) "(%rdi)\n"
        "  mov %esi,%eax\n"
        "  mov " AT(CALL_RBP) "(%rdi),%rbp\n"
        "  mov " AT(CALL_RETURN) "(%rdi),%rcx\n"
        "  mov " AT(CALL_RSP) "(%rdi),%rsp\n"
        "  mov %rsp,%rbx\n"
        "  and $15,%ebx\n"
        "  and $-16,%rsp\n"
        "  sub $16,%rsp\n"
        "  mov " AT(CALL_RSI) "(%rdi),%rsi\n"
        "  mov " AT(CALL_RDX) "(%rdi),%rdx\n"
        "  mov " AT(CALL_R8) "(%rdi),%r8\n"
        "  mov " AT(CALL_R9) "(%rdi),%r9\n"
        "  mov " AT(CALL_RDI) "(%rdi),%rdi\n"
        "  jmp *%rcx\n"
        /* Give the entry up: %rdi the call, %esi the result. */
        FUNCTION("core_thunk_leave")
        "  mov %esi,%eax\n"
        "  jmp .Lthunk_result\n"
        /* A signal came at the vDSO's AEP: %rdi the call, stack and frame pointers the vDSO's. */
        FUNCTION("core_thunk_aep")
        "  mov %rdi,%rbx\n"
        "  mov %rsp,%r12\n"
        "  mov " AT(CALL_HOST_RSP) "(%rdi),%rsp\n"
        "  and $-16,%rsp\n"
        "  call core_call_interrupted\n"
        "  mov %rbx,%rdi\n"
        "  test %eax,%eax\n"
        "  jnz .Lthunk_result\n"
        "  mov %r12,%rsp\n"
        "  mov " TEXT(CORE_CALL_RUN + CORE_RUN_TCS) "(%rdi),%rbx\n"
        "  mov " AT(CALL_AEP) "(%rdi),%rcx\n"
        "  mov $3,%eax\n"
        "  xor %edi,%edi\n"
        "  xor %r12d,%r12d\n"
        "  jmp *%rcx\n");

/* uint64_t core_probe(address, &fault): 0, or 1 << 32 | the page fault's error code. */
__asm__(".text\n"
        FUNCTION("core_probe")
        "  xor %eax,%eax\n"
        LABEL("core_probe_access")
        "  lock orb $0,(%rdi)\n"
        "  ret\n"
        LABEL("core_probe_failed") /* %rax and %rdx set by the handler */
        "  mov %rdx,(%rsi)\n"
        "  ret\n"
        FUNCTION("core_read_byte")
        LABEL("core_read_access")
        "  movzbl (%rdi),%eax\n"
        "  ret\n"
        LABEL("core_read_failed")
        "  mov $-1,%eax\n"
        "  ret\n"
        /* what the two exceptions that ENCLU may raise cost here; the handler skips them */
        FUNCTION("core_raise_ud")
        LABEL("core_ud_access")
        "  ud2\n"
        "  ret\n"
        FUNCTION("core_raise_gp")
        LABEL("core_gp_access")
        "  hlt\n"
        "  ret\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");
