/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that the assembly and the C code share. layout.h proves them against the structures. */
#ifndef TRTS_OFFSETS_H
#define TRTS_OFFSETS_H

/* ENCLU leaves (SDM vol. 3D, 40.4). */
#define LEAF_EREPORT 0
#define LEAF_EGETKEY 1
#define LEAF_EEXIT 4

/* RDI at EENTER when it is no ECALL index, and at EEXIT when it is no OCALL index. */
#define ECMD_INIT_ENCLAVE -1
#define ECMD_ORET -2
#define ECMD_EXCEPT -3
#define ECMD_MKTCS -4
#define ECMD_UNINIT_ENCLAVE -5
#define ECMD_ECALL_PTHREAD -6
#define OCMD_ERET -1

/* The signer's layout: the stack ends one guard below the TCS. Its last bytes, the static stack,
   are for the first phase of exception handling; the ECALLs' stack lies below them. */
#define GUARD_SIZE 0x10000
#define STATIC_STACK_SIZE 0x800
#define RED_ZONE 128

/* struct thread_data, at the base of FS and GS. */
#define TD_SELF 0
#define TD_LAST_SP 8
#define TD_STACK_BASE 16
#define TD_STACK_LIMIT 24
#define TD_FIRST_SSA_GPR 32
#define TD_STACK_GUARD 40
#define TD_EXCEPTION_FLAG 120

/* struct ssa_gpr (SDM vol. 3D, 38.9.1). */
#define SSA_URSP 144
#define SSA_URBP 152

/* struct ocall_context, what an OCALL leaves on the stack. */
#define OCALL_FLAG 0x4F434944
#define OCALL_CONTEXT_SIZE 160
#define OC_FLAG 32
#define OC_INDEX 40
#define OC_PREVIOUS_SP 48
#define OC_R15 56
#define OC_R14 64
#define OC_R13 72
#define OC_R12 80
#define OC_RBP 88
#define OC_RDI 96
#define OC_RSI 104
#define OC_RBX 112
#define OC_DEPTH 144
#define OC_FLOAT_CONTROL 152

/* sgx_cpu_context_t and sgx_exception_info_t. */
#define CX_RAX 0
#define CX_RCX 8
#define CX_RDX 16
#define CX_RBX 24
#define CX_RSP 32
#define CX_RBP 40
#define CX_RSI 48
#define CX_RDI 56
#define CX_R8 64
#define CX_R9 72
#define CX_R10 80
#define CX_R11 88
#define CX_R12 96
#define CX_R13 104
#define CX_R14 112
#define CX_R15 120
#define CX_RFLAGS 128
#define CX_RIP 136
#define EXCEPTION_INFO_SIZE 192
/* Stack that resuming after an exception uses, below the interrupted code's red zone. */
#define RESUME_SCRATCH 64

#endif
