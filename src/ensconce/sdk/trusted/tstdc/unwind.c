/* SPDX-License-Identifier: Apache-2.0 */
/* Where the unwinder finds the tables of the code that it walks through: an enclave is one image. */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>

extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

int dl_iterate_phdr(int (*callback)(struct dl_phdr_info *, size_t, void *), void *data)
{
    struct dl_phdr_info image = {
        .dlpi_addr = (uintptr_t)&__ehdr_start,
        .dlpi_name = "",
        .dlpi_phdr = (const Elf64_Phdr *)((const char *)&__ehdr_start + __ehdr_start.e_phoff),
        .dlpi_phnum = __ehdr_start.e_phnum,
        .dlpi_adds = 1,
    };
    return callback(&image, sizeof image, data);
}

/* What compilers name an image by when they register its destructors. */
__attribute__((visibility("hidden"))) void *__dso_handle;

/* The image does not know its functions' names. */
int dladdr(const void *address, Dl_info *info)
{
    (void)address, (void)info;
    return 0;
}
