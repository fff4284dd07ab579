/* SPDX-License-Identifier: Apache-2.0 */
/* Lead the process's calls of sigaction() and signal() to the core: in each loaded object, the
 * relocated pointers to those functions are replaced. */
#include "core.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

struct replacement {
    const char *name;
    void *function;
    bool only_in_loader;
};

struct object {
    uintptr_t base;
    const Elf64_Sym *symbols;
    const char *strings;
    size_t strings_size;
    const Elf64_Rela *tables[2];
    size_t counts[2];
    const struct dl_phdr_info *info;
    bool is_loader;
};

static void *(*real_dlopen)(const char *, int);
static uintptr_t loader;

/* A library that is loaded later brings its own pointers, and perhaps handlers. */
static void *load_library(const char *path, int mode) {
    void *handle = real_dlopen(path, mode);
    if (handle) {
        core_interpose();
        core_signals_refresh();
    }
    return handle;
}

/* dlopen() only where its caller is known to give paths: it looks at who calls it otherwise. */
static const struct replacement replacements[] = {
    {"sigaction", (void *)core_sigaction, false},
    {"__sigaction", (void *)core_sigaction, false},
    {"signal", (void *)core_signal, false},
    {"bsd_signal", (void *)core_signal, false},
    {"sysv_signal", (void *)core_sysv_signal, false},
    {"__sysv_signal", (void *)core_sysv_signal, false},
    {"dlopen", (void *)load_library, true},
};

static void *replacement_for(const struct object *object, uint32_t symbol) {
    uint32_t name = object->symbols[symbol].st_name;
    if (name >= object->strings_size)
        return NULL;
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++)
        if (strcmp(object->strings + name, replacements[i].name) == 0)
            return replacements[i].only_in_loader && !object->is_loader ? NULL
                                                                        : replacements[i].function;
    return NULL;
}

static bool is_relro(const struct object *object, uintptr_t address) {
    for (int i = 0; i < object->info->dlpi_phnum; i++) {
        const Elf64_Phdr *segment = &object->info->dlpi_phdr[i];
        if (segment->p_type == PT_GNU_RELRO &&
            address - (object->base + segment->p_vaddr) < segment->p_memsz)
            return true;
    }
    return false;
}

static bool is_writable(const struct object *object, uintptr_t address) {
    for (int i = 0; i < object->info->dlpi_phnum; i++) {
        const Elf64_Phdr *segment = &object->info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_W &&
            address - (object->base + segment->p_vaddr) < segment->p_memsz)
            return true;
    }
    return false;
}

static void replace(const struct object *object, uintptr_t address, void *function) {
    void **slot = (void **)address;
    uintptr_t page = address & ~(uintptr_t)(CORE_PAGE - 1);

    if (*slot == function || !is_writable(object, address))
        return;
    bool relro = is_relro(object, address);
    if (relro && mprotect((void *)page, CORE_PAGE, PROT_READ | PROT_WRITE) != 0)
        return;
    __atomic_store_n(slot, function, __ATOMIC_RELEASE);
    if (relro)
        mprotect((void *)page, CORE_PAGE, PROT_READ);
}

/* d_ptr is an address where the C library relocated it, else an offset. */
static uintptr_t address_of(const struct object *object, Elf64_Addr pointer) {
    return pointer < object->base ? object->base + pointer : pointer;
}

static void read_dynamic(struct object *object, const Elf64_Dyn *entry) {
    for (; entry->d_tag != DT_NULL; entry++)
        switch (entry->d_tag) {
        case DT_SYMTAB:
            object->symbols = (const Elf64_Sym *)address_of(object, entry->d_un.d_ptr);
            break;
        case DT_STRTAB:
            object->strings = (const char *)address_of(object, entry->d_un.d_ptr);
            break;
        case DT_STRSZ:
            object->strings_size = entry->d_un.d_val;
            break;
        case DT_JMPREL:
            object->tables[0] = (const Elf64_Rela *)address_of(object, entry->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            object->counts[0] = entry->d_un.d_val / sizeof(Elf64_Rela);
            break;
        case DT_RELA:
            object->tables[1] = (const Elf64_Rela *)address_of(object, entry->d_un.d_ptr);
            break;
        case DT_RELASZ:
            object->counts[1] = entry->d_un.d_val / sizeof(Elf64_Rela);
            break;
        default:
            break;
        }
}

static bool holds(const struct dl_phdr_info *info, uintptr_t address) {
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            address - (info->dlpi_addr + info->dlpi_phdr[i].p_vaddr) < info->dlpi_phdr[i].p_memsz)
            return true;
    return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *real_sigaction) {
    struct object object = {.base = info->dlpi_addr, .info = info};
    const Elf64_Dyn *dynamic = NULL;

    (void)size;
    /* the C library's own calls stay, and so do ours */
    if (holds(info, (uintptr_t)real_sigaction) || holds(info, (uintptr_t)core_interpose))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    if (!dynamic)
        return 0;
    object.is_loader = loader && holds(info, loader);
    read_dynamic(&object, dynamic);
    if (!object.symbols || !object.strings)
        return 0;
    for (int table = 0; table < 2; table++)
        for (size_t i = 0; object.tables[table] && i < object.counts[table]; i++) {
            const Elf64_Rela *entry = &object.tables[table][i];
            uint32_t type = ELF64_R_TYPE(entry->r_info);
            uint32_t symbol = ELF64_R_SYM(entry->r_info);
            if (!symbol || entry->r_addend || (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT &&
                            type != R_X86_64_64))
                continue;
            void *function = replacement_for(&object, symbol);
            if (function)
                replace(&object, object.base + entry->r_offset, function);
        }
    return 0;
}

/* Name an address in the object whose dlopen() calls are to be followed. */
void core_interpose_loader(const void *address_in_loader) {
    loader = (uintptr_t)address_in_loader;
}

void core_interpose(void) {
    void *real_sigaction = dlsym(RTLD_DEFAULT, "sigaction");
    if (!real_dlopen)
        real_dlopen = (void *(*)(const char *, int))dlsym(RTLD_DEFAULT, "dlopen");
    if (real_sigaction && real_dlopen)
        dl_iterate_phdr(visit, real_sigaction);
}
