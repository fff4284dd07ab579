/* SPDX-License-Identifier: Apache-2.0 */
/* Enclave memory: one memory file, mapped at ELRANGE as the enclave may use it, and once more, always
 * writable, for the processor itself. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

enum { RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

/* What is open, for core_memories_forked. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct core_memory *memories;

static bool is_range(const struct core_memory *memory, uint64_t offset, uint64_t length) {
    return offset % CORE_PAGE == 0 && length % CORE_PAGE == 0 && length > 0 &&
           offset < memory->size && memory->size - offset >= length;
}

/* Reserve `size` bytes, a power of two, at an address that is a multiple of it. */
int core_reserve(uint64_t size, uint64_t *base) {
    const uint64_t most = 1ull << 46;

    if (size < CORE_PAGE || size > most || size & (size - 1))
        return -EINVAL;
    uint8_t *map = mmap(NULL, 2 * size, PROT_NONE, RESERVED, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    uint64_t start = (uint64_t)map, aligned = (start + size - 1) & ~(size - 1);
    if (aligned > start)
        munmap(map, aligned - start);
    munmap((void *)(aligned + size), start + size - aligned);
    *base = aligned;
    return 0;
}

int core_release(uint64_t base, uint64_t size) {
    return munmap((void *)base, size) == 0 ? 0 : -errno;
}

static int make_file(void) {
    int fd = memfd_create("enclave", MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("enclave", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int core_memory_open(struct core_memory *memory, uint64_t base, uint64_t size) {
    int error;

    *memory = (struct core_memory){.base = base, .size = size, .fd = -1};
    if (base % CORE_PAGE || size % CORE_PAGE || size == 0)
        return -EINVAL;
    core_watch_forks();
    memory->generation = core_generation;
    memory->fd = make_file();
    if (memory->fd < 0)
        return memory->fd;
    if (ftruncate(memory->fd, (off_t)size) != 0)
        goto failed;
    void *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->fd,
                       0);
    if (alias == MAP_FAILED)
        goto failed;
    memory->alias = alias;
    if (mmap((void *)base, size, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memory->fd,
             0) == MAP_FAILED)
        goto failed;
    madvise(alias, size, MADV_DONTFORK);
    madvise((void *)base, size, MADV_DONTFORK);
    memory->mapped = true;
    pthread_mutex_lock(&mutex);
    memory->next = memories;
    memories = memory;
    pthread_mutex_unlock(&mutex);
    return 0;
failed:
    error = -errno;
    if (memory->alias)
        munmap(memory->alias, size);
    close(memory->fd);
    memory->fd = -1;
    memory->alias = NULL;
    return error;
}

/* Set what the enclave may do with its pages. */
int core_memory_protect(struct core_memory *memory, uint64_t offset, uint64_t length,
                        int protection) {
    if (!is_range(memory, offset, length))
        return -EINVAL;
    return mprotect((void *)(memory->base + offset), length, protection) == 0 ? 0 : -errno;
}

/* Give pages back to the host; they read as zero. */
int core_memory_discard(struct core_memory *memory, uint64_t offset, uint64_t length) {
    if (!is_range(memory, offset, length))
        return -EINVAL;
    return fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                     (off_t)length) == 0
               ? 0
               : -errno;
}

/* Take ELRANGE away from the enclave; the range stays reserved. */
void core_memory_unmap(struct core_memory *memory) {
    if (memory->mapped)
        mmap((void *)memory->base, memory->size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    memory->mapped = false;
}

static void forget(const struct core_memory *memory) {
    pthread_mutex_lock(&mutex);
    for (struct core_memory **link = &memories; *link; link = &(*link)->next)
        if (*link == memory) {
            *link = memory->next;
            break;
        }
    pthread_mutex_unlock(&mutex);
}

/* Free everything, the alias too. */
void core_memory_close(struct core_memory *memory) {
    forget(memory);
    core_memory_unmap(memory);
    if (memory->alias)
        munmap(memory->alias, memory->size);
    memory->alias = NULL;
    if (memory->fd >= 0)
        close(memory->fd);
    memory->fd = -1;
}

/* In the child of a fork the enclaves' pages are missing: keep the ranges, and let buffers over an
 * alias read as zero. */
void core_memories_forked(void) {
    pthread_mutex_init(&mutex, NULL);
    for (struct core_memory *memory = memories; memory; memory = memory->next) {
        mmap(memory->alias, memory->size, PROT_READ | PROT_WRITE, RESERVED | MAP_FIXED, -1, 0);
        if (memory->mapped)
            mmap((void *)memory->base, memory->size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    }
}

/* Map pages of the kernel's device over a reservation. */
int core_map_device(int fd, uint64_t address, uint64_t length, int protection, uint64_t offset) {
    void *map = mmap((void *)address, length, protection, MAP_SHARED | MAP_FIXED, fd,
                     (off_t)offset);
    return map == MAP_FAILED ? -errno : 0;
}
