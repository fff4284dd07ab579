/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave's life in the host process: the platform service builds it by commands, which this
 * file carries out, and goes on sending some while it lives. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_TCSS = 1 << 13, ATTEMPTS = 4 };

static void complain(const char *text, size_t length) {
    if (!getenv("ENSCONCE_QUIET"))
        fprintf(stderr, "ensconce: %.*s\n", (int)length, text);
}

/* ENCLU leaves and page faults are the service's to serve; both are asked outside the enclave. */

int host_enclave_ask(struct host_enclave *enclave, struct service_request *request) {
    int socket = -1;

    pthread_mutex_lock(&enclave->lock);
    if (enclave->idle_count > 0)
        socket = enclave->idle[--enclave->idle_count];
    pthread_mutex_unlock(&enclave->lock);
    if (socket < 0) {
        struct service_hello hello = {
            .magic = {'e', 'n', 's', 'c'}, .version = SERVICE_VERSION, .kind = SERVICE_ATTACH};
        memcpy(hello.token, enclave->token, sizeof hello.token);
        socket = service_connect(&hello, -1, false);
    }
    if (socket < 0 || service_ask(socket, request) != 0) {
        if (socket >= 0)
            close(socket);
        host_enclave_end(enclave, SGX_ERROR_ENCLAVE_LOST);
        return -EPIPE;
    }
    pthread_mutex_lock(&enclave->lock);
    bool keep = enclave->idle_count < IDLE_SOCKETS;
    if (keep)
        enclave->idle[enclave->idle_count++] = socket;
    pthread_mutex_unlock(&enclave->lock);
    if (!keep)
        close(socket);
    return 0;
}

static int serve_leaf(struct core_frame *f) {
    struct host_enclave *enclave = f->enclave->owner;
    struct service_request request = {.request = REQUEST_LEAF};

    memcpy(request.value, f->gpr, sizeof f->gpr);
    request.value[CORE_REGISTERS] = f->tcs_address;
    if (host_enclave_ask(enclave, &request) != 0)
        return CORE_ABORT;
    if (request.verdict == VERDICT_FAULT) {
        f->vector = (uint32_t)request.value[0];
        f->error_code = (uint32_t)request.value[1];
        f->address = request.value[2];
        return CORE_FAULT;
    }
    memcpy(f->gpr, request.value, sizeof f->gpr);
    f->gpr[CORE_RIP] += 3;
    return CORE_DONE;
}

static int serve_fault(struct core_enclave *core, uint64_t address, uint32_t *error_code,
                       uint32_t function) {
    struct host_enclave *enclave = core->owner;
    struct service_request request = {.request = REQUEST_FAULT,
                                      .value = {address, *error_code, function}};

    if (host_enclave_ask(enclave, &request) != 0)
        return CORE_GIVE_UP;
    if (request.verdict == VERDICT_RETRY)
        return CORE_RETRY;
    *error_code = (uint32_t)request.value[0];
    return CORE_DELIVER;
}

static const struct core_operations operations = {.leaf = serve_leaf, .fault = serve_fault};

/* Commands. */

static int reserve(struct host_enclave *enclave, uint64_t size) {
    if (enclave->base)
        return -EEXIST;
    int error = core_reserve(size, &enclave->base);
    enclave->size = error ? 0 : size;
    return error;
}

static int open_memory(struct host_enclave *enclave, const uint64_t *argument, int file) {
    const int flags = MAP_SHARED | MAP_NORESERVE;
    struct core_memory *memory = &enclave->memory;

    if (file < 0)
        return -EMFILE; /* what was sent found no free descriptor */
    if (enclave->core_open || !enclave->base || argument[0] != enclave->base ||
        argument[1] != enclave->size)
        return -EINVAL;
    void *alias = mmap(NULL, enclave->size, PROT_READ | PROT_WRITE, flags, file, 0);
    if (alias == MAP_FAILED)
        return -errno;
    if (mmap((void *)enclave->base, enclave->size, PROT_NONE, flags | MAP_FIXED, file, 0) ==
        MAP_FAILED) {
        int error = errno;
        munmap(alias, enclave->size);
        return -error;
    }
    madvise(alias, enclave->size, MADV_DONTFORK);
    madvise((void *)enclave->base, enclave->size, MADV_DONTFORK);
    *memory = (struct core_memory){.base = enclave->base,
                                   .size = enclave->size,
                                   .alias = alias,
                                   .fd = -1, /* the service gives pages back, and has the file */
                                   .generation = core_generation};
    int error = core_enclave_open(&enclave->core, memory, (uint32_t)argument[2],
                                  (uint32_t)argument[3], argument[4], argument[5], &operations,
                                  enclave);
    enclave->core_open = error == 0;
    if (error)
        core_memory_close(memory);
    return error;
}

static int set_tcs(struct host_enclave *enclave, const uint64_t *argument) {
    const struct core_tcs tcs = {.offset = argument[0],
                                 .flags = argument[1],
                                 .ossa = argument[2],
                                 .nssa = (uint32_t)argument[3],
                                 .cssa = (uint32_t)argument[4],
                                 .oentry = argument[5],
                                 .ofsbase = argument[6],
                                 .ogsbase = argument[7]};
    return core_tcs_set(&enclave->core, &tcs);
}

static int get_tcs(struct host_enclave *enclave, uint64_t offset, uint64_t *value) {
    struct core_tcs tcs;
    int error = core_tcs_get(&enclave->core, offset, &tcs);
    if (!error) {
        value[0] = tcs.cssa;
        value[1] = tcs.state != CORE_TCS_IDLE;
        value[2] = tcs.epoch;
    }
    return error;
}

static int carry_out(struct host_enclave *enclave, const struct service_command *command, int file,
                     uint64_t *value) {
    const uint64_t *argument = command->argument;

    if (command->command == COMMAND_RESERVE) {
        int error = reserve(enclave, argument[0]);
        value[0] = enclave->base;
        return error;
    }
    if (command->command == COMMAND_OPEN)
        return open_memory(enclave, argument, file);
    if (!enclave->core_open)
        return -EINVAL;
    switch (command->command) {
    case COMMAND_PROTECT:
        return core_memory_protect(&enclave->memory, argument[0], argument[1], (int)argument[2]);
    case COMMAND_SET_TCS:
        return set_tcs(enclave, argument);
    case COMMAND_BLOCK_TCS:
        return core_tcs_block(&enclave->core, argument[0], argument[1] != 0);
    case COMMAND_REMOVE_TCS:
        return core_tcs_remove(&enclave->core, argument[0]);
    case COMMAND_TCS:
        return get_tcs(enclave, argument[0], value);
    case COMMAND_SET_CSSA:
        return core_tcs_set_cssa(&enclave->core, argument[0], (uint32_t)argument[1]);
    case COMMAND_ADVANCE_EPOCH:
        value[0] = atomic_fetch_add(&enclave->core.epoch, 1) + 1;
        return 0;
    case COMMAND_INSIDE_BEFORE:
        value[0] = core_enclave_inside_before(&enclave->core, argument[0]);
        return 0;
    case COMMAND_KICK:
        core_enclave_kick(&enclave->core);
        return 0;
    case COMMAND_ENABLE:
        enclave->core.enabled = argument[0] != 0;
        return 0;
    default:
        return -ENOSYS;
    }
}

/* Carry out one command. Returns 0, -EPIPE, or 1 for one that wants no answer. */
static int attend(struct host_enclave *enclave, struct service_command *command) {
    int file, error = service_receive(enclave->socket, command, &file);
    if (error)
        return error;
    bool last = command->command == COMMAND_LOADED || command->command == COMMAND_FAILED;
    struct service_answer answer = {.command = command->command};
    if (!last)
        answer.error = -carry_out(enclave, command, file, answer.value);
    if (file >= 0)
        close(file);
    return last ? 1 : service_answer(enclave->socket, &answer);
}

static void *listen_for_commands(void *argument) {
    struct host_enclave *enclave = argument;
    struct service_command *command = malloc(sizeof *command);
    while (command && attend(enclave, command) == 0)
        ;
    free(command);
    host_enclave_end(enclave, SGX_ERROR_ENCLAVE_LOST);
    return NULL;
}

/* No host signal may be handled by a thread that the host does not know of. */
static bool start_listening(struct host_enclave *enclave) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enclave->listening =
        pthread_create(&enclave->listener, NULL, listen_for_commands, enclave) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return enclave->listening;
}

static int is_gone(void *context) {
    return ((struct host_enclave *)context)->gone != 0;
}

/* Make a thread of each TCS; `offsets` need not be aligned. */
static sgx_status_t make_threads(struct host_enclave *enclave, const uint8_t *offsets,
                                 uint32_t count) {
    enclave->threads = calloc(count ? count : 1, sizeof *enclave->threads);
    if (!enclave->threads)
        return SGX_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = count; i-- > 0;) {
        struct host_thread *thread = &enclave->threads[i];
        uint64_t offset;
        memcpy(&offset, offsets + i * sizeof offset, sizeof offset);
        thread->enclave = enclave;
        thread->tcs = enclave->base + offset;
        sem_init(&thread->event, 0, 0);
        thread->next = enclave->free;
        enclave->free = thread;
    }
    enclave->thread_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct core_call *call = &enclave->threads[i].call;
        if (core_call_open(call, (uint64_t)core_enter_enclave, 1 << 20) != 0)
            return SGX_ERROR_OUT_OF_MEMORY;
        call->interrupted = is_gone;
        call->context = enclave;
    }
    return SGX_SUCCESS;
}

static sgx_status_t take_over(struct host_enclave *enclave, const struct service_command *command,
                              uint8_t *features, size_t *features_size) {
    const size_t fixed = SERVICE_TOKEN + sizeof enclave->target;
    uint64_t count = command->argument[2], size = command->argument[6];
    const uint8_t *content = command->content;

    if (count > MOST_TCSS || size > *features_size || !enclave->core_open ||
        command->length != fixed + size + count * sizeof(uint64_t))
        return SGX_ERROR_UNEXPECTED;
    enclave->unbind = command->argument[0] != 0;
    enclave->aex_notify = command->argument[1] != 0;
    enclave->misc.secs_attr.flags = command->argument[3];
    enclave->misc.secs_attr.xfrm = command->argument[4];
    enclave->misc.misc_select = (sgx_misc_select_t)command->argument[5];
    memcpy(enclave->token, content, SERVICE_TOKEN);
    memcpy(&enclave->target, content + SERVICE_TOKEN, sizeof enclave->target);
    memcpy(features, content + fixed, size);
    *features_size = size;
    sgx_status_t status = make_threads(enclave, content + fixed + size, (uint32_t)count);
    if (status == SGX_SUCCESS && !start_listening(enclave))
        status = SGX_ERROR_OUT_OF_MEMORY;
    return status;
}

static sgx_status_t no_service(int error) {
    char text[160];
    int length = snprintf(text, sizeof text,
                          "the platform service can't be reached (%s); try `ensconce platform "
                          "serve`, or set ENSCONCE_COMMAND to the ensconce program",
                          strerror(-error));
    complain(text, (size_t)length);
    return SGX_ERROR_NO_DEVICE;
}

/* Greet the service and carry out what it commands, up to the last command. One that is just ending
 * may take a greeting and be gone: then another is greeted. Returns 0 or a negative errno. */
static int build(struct host_enclave *enclave, const struct service_hello *hello, int file,
                 struct service_command *command) {
    const struct timespec pause = {.tv_nsec = 50000000};
    int step = -EPIPE;

    for (int attempt = 0; attempt < ATTEMPTS && step < 0 && !enclave->base; attempt++) {
        if (enclave->socket >= 0) {
            close(enclave->socket);
            nanosleep(&pause, NULL);
        }
        enclave->socket = service_connect(hello, file, true);
        if (enclave->socket < 0)
            return enclave->socket;
        do
            step = attend(enclave, command);
        while (step == 0);
    }
    return step < 0 ? step : 0;
}

sgx_status_t host_enclave_load(struct host_enclave *enclave, const struct service_hello *hello,
                               int file, uint8_t *features, size_t *features_size) {
    if (core_init() != 0)
        return SGX_ERROR_NO_DEVICE;
    core_signals_refresh();
    enclave->generation = core_generation;
    struct service_command *command = malloc(sizeof *command);
    if (!command)
        return SGX_ERROR_OUT_OF_MEMORY;
    int error = build(enclave, hello, file, command);
    sgx_status_t status = SGX_ERROR_ENCLAVE_LOST;
    if (error && enclave->socket < 0) {
        status = no_service(error);
    } else if (error) {
        static const char text[] = "the platform service went away, or had done with this process, "
                                   "while it loaded the enclave";
        complain(text, sizeof text - 1);
    } else if (command->command == COMMAND_LOADED) {
        status = take_over(enclave, command, features, features_size);
    } else {
        status = (sgx_status_t)command->argument[0];
        if (status == SGX_SUCCESS)
            status = SGX_ERROR_UNEXPECTED;
        complain((const char *)command->content, command->length);
    }
    free(command);
    return status;
}

/* Refuse the enclave from now on, and have every thread leave it. */
void host_enclave_end(struct host_enclave *enclave, sgx_status_t why) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&enclave->gone, &none, (uint32_t)why))
        return;
    if (enclave->core_open && enclave->generation == core_generation) {
        enclave->core.enabled = false;
        core_enclave_kick(&enclave->core);
    }
    for (uint32_t i = 0; i < enclave->thread_count; i++)
        sem_post(&enclave->threads[i].event);
}

/* Free everything but the structure; no thread is inside, and none will be. */
void host_enclave_tear_down(struct host_enclave *enclave) {
    bool own = enclave->generation == core_generation;

    if (enclave->socket >= 0 && own)
        shutdown(enclave->socket, SHUT_RDWR);
    if (enclave->listening && own)
        pthread_join(enclave->listener, NULL);
    for (uint32_t i = 0; i < enclave->idle_count; i++)
        close(enclave->idle[i]);
    enclave->idle_count = 0;
    if (enclave->socket >= 0)
        close(enclave->socket);
    enclave->socket = -1;
    if (enclave->core_open) {
        core_enclave_close(&enclave->core);
        core_memory_close(&enclave->memory);
    }
    if (enclave->base && own)
        core_release(enclave->base, enclave->size);
    pthread_mutex_lock(&enclave->lock);
    struct host_thread *threads = enclave->threads;
    enclave->threads = enclave->free = NULL;
    pthread_mutex_unlock(&enclave->lock);
    for (uint32_t i = 0; i < enclave->thread_count; i++) {
        core_call_close(&threads[i].call);
        sem_destroy(&threads[i].event);
    }
    enclave->thread_count = 0;
    free(threads);
}
