/* SPDX-License-Identifier: Apache-2.0 */
/* Processor state between the signal frame, the SSA frame and the registers (SDM vol. 3D, 39). */
#include "core.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

enum { LEGACY_END = 576, HEADER = 512, MXCSR = 24, SOFTWARE = 464 };
enum { FIRST_COMPONENT = 2, COMPONENTS = 63 };
enum { GPRSGX_SIZE = 184, EXINFO_SIZE = 16, GPR_URSP = 144, GPR_URBP = 152, GPR_EXITINFO = 160 };
enum { GPR_FS = 168, GPR_GS = 176 };
enum { MISC_EXINFO = 1, MISC_CPINFO = 2 };

#define FP_XSTATE_MAGIC 0x46505853u

static struct {
    uint64_t xcr0;
    uint32_t mxcsr_mask;
    uint32_t offset[COMPONENTS], size[COMPONENTS];
} layout;

static uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void store32(uint8_t *at, uint32_t value) {
    memcpy(at, &value, sizeof value);
}

static void store64(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
}

uint64_t core_xcr0(void) {
    uint32_t a, b, c, d;
    if (layout.xcr0) /* CPUID is slow, very slow under a hypervisor */
        return layout.xcr0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

/* Read the processor's XSAVE layout once. */
int core_state_init(void) {
    uint32_t a, b, c, d;
    _Alignas(16) uint8_t fxsave[512] = {0};

    layout.xcr0 = core_xcr0();
    if (!layout.xcr0)
        return -ENOTSUP;
    for (unsigned i = FIRST_COMPONENT; i < COMPONENTS; i++) {
        if (!(layout.xcr0 >> i & 1))
            continue;
        __cpuid_count(0xd, i, a, b, c, d);
        if (a == 0 || b < LEGACY_END || a > CORE_XSAVE_MAX || b > CORE_XSAVE_MAX - a)
            return -ENOTSUP;
        layout.size[i] = a;
        layout.offset[i] = b;
    }
    __asm__ volatile("fxsave64 %0" : "+m"(fxsave));
    layout.mxcsr_mask = load32(fxsave + 28);
    if (!layout.mxcsr_mask)
        layout.mxcsr_mask = 0xffbf;
    return 0;
}

uint32_t core_xsave_size(uint64_t xfrm) {
    uint32_t size = LEGACY_END;
    for (unsigned i = FIRST_COMPONENT; i < COMPONENTS; i++)
        if (xfrm >> i & 1 && layout.offset[i] + layout.size[i] > size)
            size = layout.offset[i] + layout.size[i];
    return size;
}

/* Copy the components of `mask` that are not in their initial state; the rest is left alone. */
static void copy_extended(uint8_t *to, const uint8_t *from, uint64_t mask, uint64_t present) {
    memcpy(to, from, SOFTWARE);
    memset(to + SOFTWARE, 0, LEGACY_END - SOFTWARE);
    store64(to + HEADER, present);
    for (unsigned i = FIRST_COMPONENT; i < COMPONENTS; i++)
        if (mask >> i & 1) {
            if (present >> i & 1)
                memcpy(to + layout.offset[i], from + layout.offset[i], layout.size[i]);
            else
                memset(to + layout.offset[i], 0, layout.size[i]);
        }
}

/* Keep what the kernel saved for a signal handler, as XSAVE under XCR0 = XFRM would have it. */
void core_save_extended(struct core_frame *f, const uint8_t *signal_state) {
    uint64_t mask = f->enclave->xfrm, present = mask & 3;
    if (load32(signal_state + SOFTWARE) == FP_XSTATE_MAGIC)
        present = load64(signal_state + HEADER) & mask & load64(signal_state + SOFTWARE + 8);
    copy_extended(f->xsave, signal_state, mask, present);
}

uint64_t core_frame_offset(const struct core_enclave *enclave, const struct core_tcs *tcs,
                           uint32_t cssa) {
    return tcs->ossa + (uint64_t)cssa * enclave->ssa_frame_bytes;
}

uint8_t *core_gprsgx(const struct core_enclave *enclave, uint64_t frame_offset) {
    return enclave->alias + frame_offset + enclave->ssa_frame_bytes - GPRSGX_SIZE;
}

/* EXITINFO for a vector, 0 where the manual has it not reported. */
static uint32_t exit_info(uint32_t vector, uint32_t misc_select) {
    const uint32_t always = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 16 | 1u << 17 |
                            1u << 19;
    const uint32_t with_exinfo = 1u << 13 | 1u << 14, with_cpinfo = 1u << 21;
    uint32_t reported = always;
    if (misc_select & MISC_EXINFO)
        reported |= with_exinfo;
    if (misc_select & MISC_CPINFO)
        reported |= with_cpinfo;
    if (vector >= 32 || !(reported >> vector & 1))
        return 0;
    return 1u << 31 | (vector == CORE_VECTOR_BP ? 6u : 3u) << 8 | vector;
}

/* Asynchronous exit: store the frame's registers in the current SSA frame, give the TCS up.
 * It writes through the alias, so it cannot fault; safe in a signal handler. */
void core_aex(struct core_frame *f, uint32_t vector, uint32_t error_code, uint64_t address) {
    struct core_enclave *enclave = f->enclave;
    struct core_tcs *tcs = f->tcs;
    uint64_t at = core_frame_offset(enclave, tcs, tcs->cssa++);
    uint8_t *gpr = core_gprsgx(enclave, at);
    uint32_t info = exit_info(vector, enclave->misc_select);

    if (at >= enclave->size || enclave->size - at < enclave->ssa_frame_bytes) {
        core_tcs_set_state(tcs, CORE_TCS_IDLE); /* the host has set a CSSA that has no frame */
        return;
    }
    if (!(tcs->flags & CORE_TCS_DBGOPTIN))
        f->gpr[CORE_RFLAGS] &= ~(uint64_t)CORE_RFLAGS_TF;
    copy_extended(enclave->alias + at, f->xsave, enclave->xfrm, load64(f->xsave + HEADER));
    memcpy(gpr, f->gpr, sizeof f->gpr);
    store64(gpr + GPR_FS, f->fs_base);
    store64(gpr + GPR_GS, f->gs_base);
    store32(gpr + GPR_EXITINFO, info);
    if (info && (vector == CORE_VECTOR_PF || vector == CORE_VECTOR_GP)) {
        store64(gpr - EXINFO_SIZE, vector == CORE_VECTOR_PF ? address : 0);
        store32(gpr - 8, error_code);
        store32(gpr - 4, 0);
    }
    core_tcs_set_state(tcs, CORE_TCS_IDLE);
}

/* Write another error code where the last AEX reported its own. */
void core_set_error_code(struct core_frame *f, uint32_t error_code) {
    struct core_tcs *tcs = f->tcs;
    if (!(f->enclave->misc_select & MISC_EXINFO) || tcs->cssa == 0)
        return;
    uint64_t at = core_frame_offset(f->enclave, tcs, tcs->cssa - 1);
    if (at < f->enclave->size && f->enclave->size - at >= f->enclave->ssa_frame_bytes)
        store32(core_gprsgx(f->enclave, at) - 8, error_code);
}

static bool canonical(uint64_t address) {
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* ERESUME: take the registers out of an SSA frame. False where the manual has #GP(0). The frame
 * is copied before it is checked, for other threads of the enclave may write to it. */
bool core_load_state(struct core_frame *f, uint64_t frame_offset) {
    const struct core_enclave *enclave = f->enclave;
    const uint8_t *from = enclave->alias + frame_offset;
    uint8_t *gpr = core_gprsgx(enclave, frame_offset);
    const uint64_t user_flags = 0x254dd5, fixed_flags = 0x202; /* CF..OF, NT, RF, AC, ID; IF */
    uint64_t present = load64(from + HEADER);

    if (present & ~enclave->xfrm || load64(from + HEADER + 8) || load64(from + HEADER + 16))
        return false;
    copy_extended(f->xsave, from, enclave->xfrm, present);
    if (load32(f->xsave + MXCSR) & ~layout.mxcsr_mask)
        return false;
    memcpy(f->gpr, gpr, sizeof f->gpr);
    f->fs_base = load64(gpr + GPR_FS);
    f->gs_base = load64(gpr + GPR_GS);
    if (!canonical(f->gpr[CORE_RIP]) || !canonical(f->fs_base) || !canonical(f->gs_base))
        return false;
    f->gpr[CORE_RFLAGS] = (f->gpr[CORE_RFLAGS] & user_flags) | fixed_flags;
    if (!(f->tcs->flags & CORE_TCS_DBGOPTIN))
        f->gpr[CORE_RFLAGS] &= ~(uint64_t)CORE_RFLAGS_TF;
    store64(gpr + GPR_URSP, f->ursp);
    store64(gpr + GPR_URBP, f->urbp);
    return true;
}
