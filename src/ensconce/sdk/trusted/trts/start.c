/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the enclave and its threads. */
#include <elf.h>
#include <string.h>

#include "sgx_trts.h"
#include "sgx_utils.h"
#include "trts.h"

/* In .data: the signer patches the file, so it needs bytes there. */
__attribute__((visibility("default"))) struct global_data g_global_data = {
    .sdk_version = LAYOUT_VERSION,
};

uint32_t tee_state = STATE_NEW;
uint64_t tee_xfrm = SGX_XFRM_LEGACY;
uint32_t tee_misc_select;

extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));
typedef void (*init_function)(int, char **, char **);
extern const init_function __init_array_start[] __attribute__((visibility("hidden")));
extern const init_function __init_array_end[] __attribute__((visibility("hidden")));

static const Elf64_Phdr *segment(uint32_t type)
{
    const Elf64_Phdr *header =
        (const Elf64_Phdr *)((const char *)&__ehdr_start + __ehdr_start.e_phoff);
    for (int i = 0; i < __ehdr_start.e_phnum; i++)
        if (header[i].p_type == type) return header + i;
    return NULL;
}

/* Where a symbol is; one that nobody defined must be weak, and is nowhere. */
static int find_symbol(uintptr_t image, const Elf64_Sym *symbol, uint64_t *value)
{
    int defined = symbol->st_shndx != SHN_UNDEF;
    *value = defined ? image + symbol->st_value : 0;
    return defined || ELF64_ST_BIND(symbol->st_info) == STB_WEAK ? 0 : -1;
}

static int apply(uintptr_t image, const Elf64_Rela *entry, const Elf64_Sym *symbols)
{
    uint64_t *place = (uint64_t *)(image + entry->r_offset);
    const Elf64_Sym *symbol = symbols + ELF64_R_SYM(entry->r_info);
    uint32_t type = ELF64_R_TYPE(entry->r_info);
    if (type == R_X86_64_NONE) return 0;
    if (type == R_X86_64_RELATIVE) {
        *place = image + (uint64_t)entry->r_addend;
        return 0;
    }
    if (type == R_X86_64_DTPMOD64) { /* there is one module */
        *place = 1;
        return 0;
    }
    if (symbols == NULL) return -1;
    if (type == R_X86_64_DTPOFF64) {
        *place = symbol->st_value + (uint64_t)entry->r_addend;
        return 0;
    }
    if (type != R_X86_64_64 && type != R_X86_64_GLOB_DAT && type != R_X86_64_JUMP_SLOT) return -1;
    if (find_symbol(image, symbol, place) != 0) return -1;
    if (type == R_X86_64_64) *place += (uint64_t)entry->r_addend;
    return 0;
}

/* Make the image's own pointers absolute. It runs first, so nothing in it may use one. */
static int relocate(uintptr_t image)
{
    const Elf64_Phdr *dynamic = segment(PT_DYNAMIC);
    if (dynamic == NULL) return 0;
    uint64_t tags[DT_JMPREL + 1] = {0};
    for (const Elf64_Dyn *tag = (const Elf64_Dyn *)(image + dynamic->p_vaddr);
         tag->d_tag != DT_NULL; tag++)
        if ((uint64_t)tag->d_tag <= DT_JMPREL) tags[tag->d_tag] = tag->d_un.d_val;
    const Elf64_Sym *symbols = tags[DT_SYMTAB] ? (void *)(image + tags[DT_SYMTAB]) : NULL;
    const Elf64_Rela *data = (const Elf64_Rela *)(image + tags[DT_RELA]);
    const Elf64_Rela *calls = (const Elf64_Rela *)(image + tags[DT_JMPREL]);
    for (size_t i = 0; i < tags[DT_RELASZ] / sizeof *data; i++)
        if (apply(image, data + i, symbols) != 0) return -1;
    for (size_t i = 0; i < tags[DT_PLTRELSZ] / sizeof *calls; i++)
        if (apply(image, calls + i, symbols) != 0) return -1;
    return 0;
}

/* Learn what EINIT settled: the host could say anything, a report cannot. */
static int read_attributes(void)
{
    _Alignas(512) static sgx_target_info_t nobody;
    _Alignas(128) static sgx_report_data_t nothing;
    _Alignas(512) static sgx_report_t report;
    if (tee_ereport(&nobody, &nothing, &report) != 0) return SGX_ERROR_UNEXPECTED;
    tee_xfrm = report.body.attributes.xfrm;
    tee_misc_select = report.body.misc_select;
    /* Hosts then expect exceptions to end inside, by EDECCSSA, which exception.c does not do. */
    if ((report.body.attributes.flags & SGX_FLAGS_AEX_NOTIFY) != 0)
        return SGX_ERROR_FEATURE_NOT_SUPPORTED;
    return SGX_SUCCESS;
}

static void start_crypto(const struct system_features *host)
{
    uint32_t cpuid[8][4];
    if (tee_crypto_start == NULL) return;
    memcpy(cpuid, (const char *)host + offsetof(struct system_features, cpuid_table), sizeof cpuid);
    tee_crypto_start(cpuid, tee_xfrm);
}

int tee_start(const struct system_features *host)
{
    uintptr_t image = (uintptr_t)&__ehdr_start;
    if (relocate(image) != 0) return SGX_ERROR_UNEXPECTED;
    tee_base = image;
    tee_size = g_global_data.enclave_size;
    if (g_global_data.elrange_size != 0) {
        if (g_global_data.enclave_image_address != image) return SGX_ERROR_UNEXPECTED;
        tee_base = g_global_data.elrange_start_address;
        tee_size = g_global_data.elrange_size;
    }
    if (host == NULL || !sgx_is_outside_enclave(host, sizeof *host)) return SGX_ERROR_UNEXPECTED;
    __asm__ __volatile__("lfence" ::: "memory");
    int status = read_attributes();
    if (status != SGX_SUCCESS) return status;
    start_crypto(host);
    return tee_libc_start((void *)(image + g_global_data.heap_offset), g_global_data.heap_size);
}

static void fill_thread_local_storage(const struct thread_data *thread)
{
    const Elf64_Phdr *image = segment(PT_TLS);
    if (image == NULL) return;
    memset((void *)thread->tls, 0, thread->self - thread->tls);
    memcpy((void *)thread->tls, (const char *)&__ehdr_start + image->p_vaddr, image->p_filesz);
}

/* Put a TCS's thread data into its first state; its stack must be empty but for the caller. */
int tee_start_thread(uintptr_t tcs)
{
    struct thread_data *thread = (struct thread_data *)(tcs + g_global_data.thread_template.self);
    uint64_t guard;
    if (sgx_read_rand((unsigned char *)&guard, sizeof guard) != SGX_SUCCESS)
        return SGX_ERROR_UNEXPECTED;
    struct thread_data fresh = g_global_data.thread_template;
    fresh.self += tcs;
    fresh.stack_base += tcs - STATIC_STACK_SIZE;
    fresh.stack_limit += tcs;
    fresh.stack_commit = fresh.stack_limit;
    fresh.last_sp = fresh.stack_base;
    fresh.first_ssa_gpr += tcs;
    fresh.first_ssa_xsave += tcs;
    fresh.tls += tcs;
    fresh.tls_array += tcs;
    fresh.stack_guard = guard;
    memcpy(thread, &fresh, sizeof fresh);
    tee_mark_static_stack(tcs);
    fill_thread_local_storage(thread);
    tee_libc_start_thread(thread);
    return SGX_SUCCESS;
}

/* Where a thread-local variable is, for code that was compiled to ask: there is one module. */
void *__tls_get_addr(const uint64_t index[2])
{
    return (char *)tee_thread()->tls + index[1];
}

void tee_construct(void)
{
    for (const init_function *next = __init_array_start; next < __init_array_end; next++)
        (*next)(0, NULL, NULL);
}

void tee_destruct(void)
{
    tee_libc_exit();
}
