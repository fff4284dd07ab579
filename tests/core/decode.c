/* SPDX-License-Identifier: Apache-2.0 */
/* Which instructions an enclave must not execute, and the host's CPUID when it faults. */
#include "check.h"

static void are_illegal(void) {
    static const char *const illegal[] = {
        "\x0f\xa2",         "\x0f\x05",     "\x0f\x34",     "\x0f\x33",     "\x0f\x37",
        "\xe4\x10",         "\xe5\x10",     "\xe6\x10",     "\xe7\x10",     "\xec",
        "\xed",             "\xee",         "\xef",         "\x6c",         "\xf3\x6d",
        "\xf2\x6e",         "\x66\x6f",     "\xcd\x80",     "\x48\xcf",     "\xcf",
        "\xcb",             "\xca\x01\x01", "\xff\x18",     "\xff\x28",     "\x48\xff\x2c\x24",
        "\x8e\xd8",         "\x0f\xa1",     "\x0f\xa9",     "\x0f\xb2\x00", "\x0f\xb4\x00",
        "\x48\x0f\xb5\x00", "\x0f\x01\x00", "\x0f\x01\x08", "\x0f\x01\x20", "\x0f\x01\xe0",
        "\x0f\x01\xc1",     "\x0f\x01\xd4",
    };
    for (size_t i = 0; i < sizeof illegal / sizeof illegal[0]; i++)
        CHECK(core_is_illegal((const uint8_t *)illegal[i], strlen(illegal[i]) + 1));
    CHECK(core_is_illegal((const uint8_t *)"\x0f\x00\xc0", 3)); /* SLDT */
    CHECK(core_is_illegal((const uint8_t *)"\x0f\x00\xc8", 3)); /* STR */
}

static void are_not(void) {
    static const char *const fine[] = {
        "\xf4",             "\xfa",             "\xfb",             "\x48\x8b\x06", "\xff\x10",
        "\xff\x20",         "\xff\xd0",         "\xff\xd8",         "\x0f\x0b",     "\x0f\x01\x10",
        "\x0f\x01\xd0",     "\x0f\x01\xd7",     "\x0f",             "\x0f\x31",     "\x0f\x30",
        "\x0f\x20\xc0",     "\xc3",             "\x66\x66\x66\x66", "\xf1",         "\x0f\x78\xc8",
        "\xf3\x0f\xae\xd0", "\x48\x0f\xae\x2f",
    };
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        CHECK(!core_is_illegal((const uint8_t *)fine[i], strlen(fine[i])));
    CHECK(!core_is_illegal((const uint8_t *)"", 0));
    CHECK(!core_is_illegal((const uint8_t *)"\x0f\x00\xd0", 3)); /* LLDT is privileged anyway */
    for (int byte = 0; byte < 256; byte++) { /* never reads on */
        uint8_t *one = malloc(1);
        *one = (uint8_t)byte;
        core_is_illegal(one, 1);
        free(one);
    }
}

static void host_cpuid(void) {
    static const uint8_t cpuid[] = {0x0f, 0xa2}, other[] = {0x0f, 0x0b};
    ucontext_t context = {0};
    greg_t *regs = context.uc_mcontext.gregs;
    uint32_t real[4];

    CHECK(core_init() == 0);
    regs[REG_RIP] = (greg_t)other;
    CHECK(!core_host_cpuid(&context));
    regs[REG_RIP] = 8; /* unreadable */
    CHECK(!core_host_cpuid(&context));
    regs[REG_RIP] = (greg_t)cpuid;
    regs[REG_RAX] = 0;
    bool done = core_host_cpuid(&context);
    CHECK(done == core_capabilities().cpuid_faulting);
    if (!done)
        return;
    core_cpuid(0, 0, real);
    CHECK(regs[REG_RBX] == real[1] && regs[REG_RCX] == real[2] && regs[REG_RDX] == real[3]);
    CHECK(regs[REG_RIP] == (greg_t)cpuid + 2);
}

static void vdso(void) {
    uint64_t size = 0;
    CHECK(core_vdso_symbol("__vdso_clock_gettime", &size) != 0 && size > 0);
    CHECK(core_vdso_symbol("__vdso_no_such_thing", &size) == 0);
    CHECK((core_vdso_aep() != 0) == (core_vdso_symbol("__vdso_sgx_enter_enclave", NULL) != 0));
}

int main(void) {
    are_illegal();
    are_not();
    host_cpuid();
    vdso();
    puts("ok");
    return 0;
}
