/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of libsgx_urts, with the vendor's names and meanings. */
#include "sgx_urts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

enum { ECMD_INIT_ENCLAVE = -1, KNOWN_FEATURES = 7, FEATURES_SIZE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct host_enclave *enclaves;
static sgx_enclave_id_t last_id;

/* Innermost ECALL's enclave, for OCALLs that need to know. */
static _Thread_local struct host_enclave *current __attribute__((tls_model("initial-exec")));

static _Thread_local const void *current_table __attribute__((tls_model("initial-exec")));

struct host_enclave *host_enclave_of_caller(const void **table) {
    *table = current_table;
    return current;
}

/* Make a call that itself is in use of the enclave. */
sgx_status_t host_enclave_call(struct host_enclave *enclave, int64_t number, const void *table,
                               void *ms) {
    struct host_enclave *outer = current;
    const void *outer_table = current_table;
    struct host_thread *thread = host_thread_of_caller(enclave);
    if (!thread)
        return SGX_ERROR_OUT_OF_TCS;
    current = enclave;
    current_table = table;
    sgx_status_t status = host_thread_call(thread, number, table, (uint64_t)ms);
    current = outer;
    current_table = outer_table;
    host_thread_done(thread);
    return status;
}

void host_enclave_reference(struct host_enclave *enclave) {
    pthread_mutex_lock(&lock);
    enclave->references++;
    pthread_mutex_unlock(&lock);
}

void host_enclave_dereference(struct host_enclave *enclave) {
    pthread_mutex_lock(&lock);
    bool last = --enclave->references == 0;
    pthread_mutex_unlock(&lock);
    if (last) {
        pthread_mutex_destroy(&enclave->lock);
        free(enclave);
    }
}

/* A use ends; with the last one all that the enclave holds goes. */
void host_enclave_release(struct host_enclave *enclave) {
    pthread_mutex_lock(&lock);
    bool last = --enclave->users == 0;
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    host_enclave_tear_down(enclave);
    host_enclave_dereference(enclave);
}

/* One more use, by somebody who has one already. */
void host_enclave_use(struct host_enclave *enclave) {
    pthread_mutex_lock(&lock);
    enclave->users++;
    pthread_mutex_unlock(&lock);
}

static struct host_enclave *acquire(sgx_enclave_id_t id) {
    pthread_mutex_lock(&lock);
    struct host_enclave *at = enclaves;
    while (at && at->id != id)
        at = at->next;
    if (at)
        at->users++;
    pthread_mutex_unlock(&lock);
    return at;
}

/* The enclave that has an address, in use until `host_enclave_release`. */
struct host_enclave *host_enclave_at(uint64_t address) {
    pthread_mutex_lock(&lock);
    struct host_enclave *at = enclaves;
    while (at && address - at->base >= at->size)
        at = at->next;
    if (at)
        at->users++;
    pthread_mutex_unlock(&lock);
    return at;
}

/* A child has none of the parent's enclaves; the service must see the parent end all the same. */
static void before_fork(void) {
    pthread_mutex_lock(&lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&lock);
}

static void in_child(void) {
    pthread_mutex_init(&lock, NULL);
    for (struct host_enclave *at = enclaves; at; at = at->next) {
        pthread_mutex_init(&at->lock, NULL); /* a thread that is not here may have held it */
        at->gone = SGX_ERROR_ENCLAVE_LOST;
        for (uint32_t i = 0; i < at->idle_count; i++)
            close(at->idle[i]);
        at->idle_count = 0;
        close(at->socket);
        at->socket = -1;
    }
}

static void prepare(void) {
    pthread_atfork(before_fork, after_fork, in_child);
}

static sgx_status_t initialise(struct host_enclave *enclave, uint8_t *features) {
    return host_enclave_call(enclave, ECMD_INIT_ENCLAVE, NULL, features);
}

static void enlist(struct host_enclave *enclave) {
    pthread_mutex_lock(&lock);
    enclave->id = ++last_id;
    enclave->next = enclaves;
    enclaves = enclave;
    pthread_mutex_unlock(&lock);
}

/* Load what `file` holds. */
static sgx_status_t create(const struct service_hello *hello, int file, sgx_enclave_id_t *id,
                           sgx_misc_attribute_t *misc) {
    uint8_t features[FEATURES_SIZE] __attribute__((aligned(64)));
    size_t size = sizeof features;

    pthread_once(&once, prepare);
    struct host_enclave *enclave = calloc(1, sizeof *enclave);
    if (!enclave)
        return SGX_ERROR_OUT_OF_MEMORY;
    enclave->socket = -1;
    enclave->references = enclave->users = 1;
    pthread_mutex_init(&enclave->lock, NULL);
    sgx_status_t status = host_enclave_load(enclave, hello, file, features, &size);
    if (status == SGX_SUCCESS) {
        enlist(enclave);
        status = initialise(enclave, features);
    }
    if (status != SGX_SUCCESS) {
        if (enclave->id)
            sgx_destroy_enclave(enclave->id);
        else
            host_enclave_release(enclave);
        return status;
    }
    *id = enclave->id;
    if (misc)
        *misc = enclave->misc;
    return SGX_SUCCESS;
}

/* Whether the arguments fit together: a pointer without its feature is a mistake, as a `debug` that
 * is neither 0 nor 1. */
static bool is_sound(int debug, uint32_t features, const void *const *pointers) {
    if ((debug != 0 && debug != 1) || features & ~(uint32_t)KNOWN_FEATURES)
        return false;
    for (uint32_t i = 0; pointers && i < MAX_EX_FEATURES_COUNT; i++)
        if (pointers[i] && !(features >> i & 1))
            return false;
    return pointers || !features;
}

/* Fill in the greeting; features of the vendor's that are not offered are refused. */
static sgx_status_t greet(struct service_hello *hello, const char *name, int debug,
                          uint32_t features, const void *const *pointers) {
    memset(hello, 0, sizeof *hello);
    memcpy(hello->magic, "ensc", sizeof hello->magic);
    hello->version = SERVICE_VERSION;
    hello->kind = SERVICE_LOAD;
    hello->flags = debug ? SERVICE_DEBUG : 0;
    snprintf(hello->name, sizeof hello->name, "%s", name);
    if (!is_sound(debug, features, pointers))
        return SGX_ERROR_INVALID_PARAMETER;
    if (features & SGX_CREATE_ENCLAVE_EX_PCL)
        return SGX_ERROR_FEATURE_NOT_SUPPORTED;
    if (features & SGX_CREATE_ENCLAVE_EX_KSS) {
        const sgx_kss_config_t *kss = pointers[SGX_CREATE_ENCLAVE_EX_KSS_BIT_IDX];
        if (!kss)
            return SGX_ERROR_INVALID_PARAMETER;
        memcpy(hello->config_id, kss->config_id, sizeof hello->config_id);
        hello->config_svn = kss->config_svn;
        hello->flags |= SERVICE_KSS;
    }
    /* switchless calls are made as ordinary ones, so their configuration is of no consequence */
    return SGX_SUCCESS;
}

PUBLIC sgx_status_t sgx_create_enclave_ex(const char *file_name, const int debug,
                                          sgx_launch_token_t *launch_token,
                                          int *launch_token_updated, sgx_enclave_id_t *enclave_id,
                                          sgx_misc_attribute_t *misc_attr,
                                          const uint32_t ex_features,
                                          const void *ex_features_p[32]) {
    struct service_hello hello;

    (void)launch_token; /* launch control is flexible: there are no tokens */
    if (launch_token_updated)
        *launch_token_updated = 0;
    if (!file_name || !enclave_id)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = greet(&hello, file_name, debug, ex_features, ex_features_p);
    if (status != SGX_SUCCESS)
        return status;
    int file = open(file_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return errno == ENOMEM ? SGX_ERROR_OUT_OF_MEMORY : SGX_ERROR_ENCLAVE_FILE_ACCESS;
    status = create(&hello, file, enclave_id, misc_attr);
    close(file);
    return status;
}

PUBLIC sgx_status_t sgx_create_enclave(const char *file_name, const int debug,
                                       sgx_launch_token_t *launch_token, int *launch_token_updated,
                                       sgx_enclave_id_t *enclave_id,
                                       sgx_misc_attribute_t *misc_attr) {
    return sgx_create_enclave_ex(file_name, debug, launch_token, launch_token_updated, enclave_id,
                                 misc_attr, 0, NULL);
}

PUBLIC sgx_status_t sgx_create_enclave_from_buffer_ex(uint8_t *buffer, uint64_t buffer_size,
                                                      const int debug, sgx_enclave_id_t *enclave_id,
                                                      sgx_misc_attribute_t *misc_attr,
                                                      const uint32_t ex_features,
                                                      const void *ex_features_p[32]) {
    struct service_hello hello;
    uint64_t done = 0;

    if (!buffer || !buffer_size || !enclave_id)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = greet(&hello, "the enclave's buffer", debug, ex_features, ex_features_p);
    if (status != SGX_SUCCESS)
        return status;
    int file = memfd_create("enclave_image", MFD_CLOEXEC);
    if (file < 0)
        return SGX_ERROR_OUT_OF_MEMORY;
    while (done < buffer_size) {
        ssize_t written = write(file, buffer + done, buffer_size - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (uint64_t)written;
    }
    status = done == buffer_size ? create(&hello, file, enclave_id, misc_attr)
                                 : SGX_ERROR_OUT_OF_MEMORY;
    close(file);
    return status;
}

PUBLIC sgx_status_t sgx_create_encrypted_enclave(const char *file_name, const int debug,
                                                 sgx_launch_token_t *launch_token,
                                                 int *launch_token_updated,
                                                 sgx_enclave_id_t *enclave_id,
                                                 sgx_misc_attribute_t *misc_attr,
                                                 uint8_t *sealed_key) {
    (void)file_name;
    (void)debug;
    (void)launch_token;
    (void)launch_token_updated;
    (void)enclave_id;
    (void)misc_attr;
    (void)sealed_key;
    fputs("ensconce: encrypted enclaves (PCL) are not supported yet\n", stderr);
    return SGX_ERROR_FEATURE_NOT_SUPPORTED;
}

PUBLIC sgx_status_t sgx_destroy_enclave(const sgx_enclave_id_t enclave_id) {
    const struct timespec pause = {.tv_nsec = 1000000};

    pthread_mutex_lock(&lock);
    struct host_enclave **link = &enclaves;
    while (*link && (*link)->id != enclave_id)
        link = &(*link)->next;
    struct host_enclave *enclave = *link;
    if (enclave)
        *link = enclave->next;
    pthread_mutex_unlock(&lock);
    if (!enclave)
        return SGX_ERROR_INVALID_ENCLAVE_ID;
    /* ECALLs may finish; those that are in OCALLs find the enclave lost when they come back */
    while (host_enclave_is_inside(enclave) && !enclave->gone)
        nanosleep(&pause, NULL);
    host_enclave_end(enclave, SGX_ERROR_ENCLAVE_LOST);
    host_enclave_release(enclave);
    return SGX_SUCCESS;
}

PUBLIC sgx_status_t sgx_get_target_info(const sgx_enclave_id_t enclave_id,
                                        sgx_target_info_t *target_info) {
    if (!target_info)
        return SGX_ERROR_INVALID_PARAMETER;
    struct host_enclave *enclave = acquire(enclave_id);
    if (!enclave)
        return SGX_ERROR_INVALID_ENCLAVE_ID;
    *target_info = enclave->target;
    host_enclave_release(enclave);
    return SGX_SUCCESS;
}

PUBLIC sgx_status_t sgx_ecall(const sgx_enclave_id_t eid, const int index, const void *ocall_table,
                              void *ms) {
    if (index < 0)
        return SGX_ERROR_INVALID_FUNCTION;
    struct host_enclave *enclave = acquire(eid);
    if (!enclave)
        return SGX_ERROR_INVALID_ENCLAVE_ID;
    sgx_status_t status = (sgx_status_t)enclave->gone;
    if (status == SGX_SUCCESS)
        status = host_enclave_call(enclave, index, ocall_table, ms);
    host_enclave_release(enclave);
    return status;
}

/* Worker threads inside the enclave are a matter of speed only. */
PUBLIC sgx_status_t sgx_ecall_switchless(const sgx_enclave_id_t eid, const int index,
                                         const void *ocall_table, void *ms) {
    return sgx_ecall(eid, index, ocall_table, ms);
}

/* The vendor's switchless library, which programs hold a copy of, brings its functions here. */
PUBLIC void sgx_set_switchless_itf(const void *functions) {
    (void)functions;
}
