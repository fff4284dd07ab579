/* SPDX-License-Identifier: Apache-2.0 */
/* A program that loads the library, and lets it go, while it runs: plugin LIBRARY ENCLAVE. */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "sgx_urts.h"

static const char *library, *enclave;
static sigjmp_buf recovery;

/* What the generated code has for `add`, the first ECALL. */
struct add {
    int result, left, right;
};

static void *use(void *argument)
{
    int *good = argument;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return NULL;
    sgx_status_t (*create)(const char *, int, sgx_launch_token_t *, int *, sgx_enclave_id_t *,
                           sgx_misc_attribute_t *) = dlsym(handle, "sgx_create_enclave");
    sgx_status_t (*call)(sgx_enclave_id_t, int, const void *, void *) = dlsym(handle, "sgx_ecall");
    sgx_status_t (*destroy)(sgx_enclave_id_t) = dlsym(handle, "sgx_destroy_enclave");
    struct add add = {.left = 40, .right = 2};
    const size_t no_ocalls = 0;
    sgx_enclave_id_t id = 0;
    if (create(enclave, 1, NULL, NULL, &id, NULL) == SGX_SUCCESS &&
        call(id, 0, &no_ocalls, &add) == SGX_SUCCESS && add.result == 42 &&
        destroy(id) == SGX_SUCCESS && dlclose(handle) == 0)
        ++*good;
    return NULL;
}

static void recover(int number)
{
    (void)number;
    siglongjmp(recovery, 1);
}

int main(int count, char **arguments)
{
    int good = 0;
    if (count != 3) return 2;
    library = arguments[1];
    enclave = arguments[2];
    signal(SIGSEGV, recover);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, use, &good) != 0) return 1;
        pthread_join(thread, NULL);
    }
    if (sigsetjmp(recovery, 1) == 0) *(volatile int *)(uintptr_t)8 = 1;
    printf("%d times\n", good);
    return 0;
}
