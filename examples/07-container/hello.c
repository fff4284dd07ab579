/* SPDX-License-Identifier: Apache-2.0 */
/* The host of hello world's enclave as a service: one greeting a second, until it is told to end. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "enclave_u.h"
#include "sgx_urts.h"

static volatile sig_atomic_t over;

static void on_end(int number)
{
    (void)number;
    over = 1;
}

/* The enclave's OCALL. */
void print(const char *text)
{
    puts(text);
}

int main(int count, char **arguments)
{
    const char *file = count > 1 ? arguments[1] : "/app/enclave.signed.so";
    const struct sigaction action = {.sa_handler = on_end};
    const struct timespec second = {.tv_sec = 1};
    sgx_enclave_id_t id;

    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sgx_status_t status = sgx_create_enclave(file, 1, NULL, NULL, &id, NULL);
    if (status != SGX_SUCCESS) {
        fprintf(stderr, "%s: no enclave, status 0x%04x\n", file, status);
        return 1;
    }
    while (!over && status == SGX_SUCCESS) {
        status = greet(id, "Kubernetes", NULL, 0);
        nanosleep(&second, NULL); /* a signal ends it */
    }
    sgx_destroy_enclave(id);
    if (status != SGX_SUCCESS) fprintf(stderr, "the enclave is gone, status 0x%04x\n", status);
    return status != SGX_SUCCESS;
}
