/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's own shared object: its SGX enter function, where there is one. */
#include "core.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

/* Number of symbols, from the DT_HASH or, if need be, the DT_GNU_HASH table. */
static uint32_t symbol_count(const uint32_t *hash, const uint32_t *gnu_hash) {
    if (hash)
        return hash[1];
    if (!gnu_hash)
        return 0;
    uint32_t buckets = gnu_hash[0], first = gnu_hash[1], last = 0;
    const uint32_t *bucket = gnu_hash + 4 + 2 * gnu_hash[2], *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last)
            last = bucket[i];
    if (last < first)
        return 0;
    while (!(chain[last - first] & 1))
        last++;
    return last + 1;
}

/* Address and size of a function of the vDSO; 0 where it has none of that name. */
uint64_t core_vdso_symbol(const char *name, uint64_t *size) {
    uintptr_t image = getauxval(AT_SYSINFO_EHDR);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    uintptr_t load = 0, dynamic = 0;
    const uint32_t *hash = NULL, *gnu_hash = NULL;
    const Elf64_Sym *symbols = NULL;
    const char *strings = NULL;

    if (!image || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return 0;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && !load)
            load = image + segments[i].p_offset - segments[i].p_vaddr;
        if (segments[i].p_type == PT_DYNAMIC)
            dynamic = image + segments[i].p_offset;
    }
    for (const Elf64_Dyn *at = (const Elf64_Dyn *)dynamic; at && at->d_tag != DT_NULL; at++) {
        void *value = (void *)(load + at->d_un.d_ptr);
        if (at->d_tag == DT_SYMTAB)
            symbols = value;
        else if (at->d_tag == DT_STRTAB)
            strings = value;
        else if (at->d_tag == DT_HASH)
            hash = value;
        else if (at->d_tag == DT_GNU_HASH)
            gnu_hash = value;
    }
    if (!symbols || !strings)
        return 0;
    for (uint32_t i = 0, count = symbol_count(hash, gnu_hash); i < count; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && strcmp(strings + symbols[i].st_name, name) == 0) {
            if (size)
                *size = symbols[i].st_size;
            return load + symbols[i].st_value;
        }
    return 0;
}

/* Address of the ENCLU in the kernel's enter function, which is its asynchronous exit pointer. */
uint64_t core_vdso_aep(void) {
    static const uint8_t enclu[] = {0x0f, 0x01, 0xd7};
    uint64_t size = 0, start = core_vdso_symbol("__vdso_sgx_enter_enclave", &size);

    for (uint64_t at = 0; start && at + sizeof enclu <= size; at++)
        if (memcmp((const void *)(start + at), enclu, sizeof enclu) == 0)
            return start + at;
    return 0;
}
