/* SPDX-License-Identifier: Apache-2.0 */
/* Structures that hosts and signers of this development model write and read.
   Their fields and sizes are an ABI: the signer fills g_global_data in the file, and a host that
   we did not write starts the enclave with a struct system_features. */
#ifndef TRTS_LAYOUT_H
#define TRTS_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "offsets.h"
#include "sgx_trts_exception.h"

/* The release whose structures these are. Signing tools of that release look for it. */
#define SDK_VERSION(major, minor, revision) \
    ((uint64_t)(major) << 32 | (uint64_t)(minor) << 16 | (revision))
#define LAYOUT_VERSION SDK_VERSION(2, 26, 100)
#define LAYOUT_ENTRIES 43
#define TCS_TEMPLATE_SIZE 72
#define PAGE 4096

enum { THREAD_POLICY_BIND = 0, THREAD_POLICY_UNBIND = 1 };

/* One per TCS, at the start of its last page; addresses are made absolute at thread start. */
struct thread_data {
    uint64_t self;
    uint64_t last_sp; /* where the next entry's stack starts: the base, or the last OCALL */
    uint64_t stack_base;
    uint64_t stack_limit;
    uint64_t first_ssa_gpr;
    uint64_t stack_guard; /* compilers read the stack protector's value here */
    uint64_t flags;
    uint64_t xsave_size;
    uint64_t last_error;
    uint64_t aex_mitigation_list;
    uint64_t aex_notify_flag;
    uint64_t first_ssa_xsave;
    uint64_t next;
    uint64_t tls;
    uint64_t tls_array;
    int64_t exception_flag; /* exceptions being handled; negative: one that nobody handled */
    uint64_t cxx_thread_info[6];
    uint64_t stack_commit;
    uint32_t entropy_cache;
    int32_t entropy_remaining;
};
static_assert(sizeof(struct thread_data) == 192, "thread data");
static_assert(offsetof(struct thread_data, self) == TD_SELF, "self");
static_assert(offsetof(struct thread_data, last_sp) == TD_LAST_SP, "last_sp");
static_assert(offsetof(struct thread_data, stack_base) == TD_STACK_BASE, "stack_base");
static_assert(offsetof(struct thread_data, stack_limit) == TD_STACK_LIMIT, "stack_limit");
static_assert(offsetof(struct thread_data, first_ssa_gpr) == TD_FIRST_SSA_GPR, "ssa");
static_assert(offsetof(struct thread_data, stack_guard) == TD_STACK_GUARD, "guard");
static_assert(offsetof(struct thread_data, exception_flag) == TD_EXCEPTION_FLAG, "flag");

/* Filled in by the signer; measured, so the enclave believes it. */
struct global_data {
    uint64_t sdk_version;
    uint64_t enclave_size;
    uint64_t heap_offset;
    uint64_t heap_size;
    uint64_t reserved_offset;
    uint64_t reserved_size;
    uint64_t reserved_executable;
    uint64_t thread_policy;
    uint64_t tcs_max_num;
    uint64_t tcs_num;
    struct thread_data thread_template; /* addresses relative to the TCS */
    uint8_t tcs_template[TCS_TEMPLATE_SIZE];
    uint32_t layout_entries;
    uint32_t reserved;
    uint8_t layout_table[LAYOUT_ENTRIES][32];
    uint64_t enclave_image_address;
    uint64_t elrange_start_address;
    uint64_t elrange_size; /* 0: the image is the whole range */
    uint64_t edmm_overhead;
    uint32_t fips_on;
    uint32_t reserved2;
};
static_assert(sizeof(struct global_data) == 1768, "global data");
static_assert(offsetof(struct global_data, layout_table) == 352, "layout table");

/* GPRSGX, at the end of each SSA frame. */
struct ssa_gpr {
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rflags, rip;
    uint64_t ursp, urbp;
    uint32_t exit_info;
    uint8_t reserved[3];
    uint8_t aex_notify;
    uint64_t fsbase, gsbase;
};
static_assert(sizeof(struct ssa_gpr) == 184, "GPRSGX");
static_assert(offsetof(struct ssa_gpr, ursp) == SSA_URSP, "ursp");
static_assert(offsetof(struct ssa_gpr, urbp) == SSA_URBP, "urbp");
static_assert(offsetof(struct ssa_gpr, exit_info) == 160, "exit_info");

#define EXIT_INFO_VALID 0x80000000u
#define EXIT_INFO_VECTOR(info) ((info) & 0xff)
#define EXIT_INFO_TYPE(info) ((info) >> 8 & 7)
#define MISC_EXINFO 1u

/* EXINFO, right below GPRSGX when MISCSELECT asks for it. */
struct exinfo {
    uint64_t address;
    uint32_t error_code;
    uint32_t reserved;
};

/* An OCALL's frame. Debuggers walk these, so the unused words have to stay. */
struct ocall_context {
    uint64_t shadow[4];
    uint64_t flag;
    uint64_t index;
    uint64_t previous_sp;
    uint64_t r15, r14, r13, r12, rbp, rdi, rsi, rbx;
    uint64_t reserved[3];
    uint64_t depth;
    uint32_t mxcsr;
    uint32_t fpu_control;
};
static_assert(sizeof(struct ocall_context) == OCALL_CONTEXT_SIZE, "OCALL context");
static_assert(offsetof(struct ocall_context, flag) == OC_FLAG, "flag");
static_assert(offsetof(struct ocall_context, previous_sp) == OC_PREVIOUS_SP, "previous_sp");
static_assert(offsetof(struct ocall_context, r12) == OC_R12, "r12");
static_assert(offsetof(struct ocall_context, rbx) == OC_RBX, "rbx");
static_assert(offsetof(struct ocall_context, depth) == OC_DEPTH, "depth");
static_assert(offsetof(struct ocall_context, mxcsr) == OC_FLOAT_CONTROL, "control");

static_assert(offsetof(sgx_exception_info_t, xsave_area) == EXCEPTION_INFO_SIZE, "info");
static_assert(offsetof(sgx_cpu_context_t, rip) == CX_RIP, "rip");
static_assert(offsetof(sgx_cpu_context_t, r15) == CX_R15, "r15");

/* What a host says of the machine at ECMD_INIT_ENCLAVE. Nothing in it is to be believed. */
struct __attribute__((packed)) system_features {
    uint64_t cpu_features;
    uint32_t version;
    uint64_t feature_set; /* bit 63: last word; bit 62: the fields from `size` on exist */
    uint32_t cpuid_table[8][4];
    uint64_t sealed_key;
    uint64_t size;
    uint64_t cpu_features_ext;
    uint32_t cpu_core_num;
};
static_assert(sizeof(struct system_features) == 176, "system features");
static_assert(offsetof(struct system_features, size) == 156, "size");

#endif
