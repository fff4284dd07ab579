/* SPDX-License-Identifier: Apache-2.0 */
/* app ENCLAVE FOLDER: a host that allows its enclave a folder, and then nothing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "calls_u.h"
#include "sgx_urts.h"
#include "tee_host.h"

static int failed(const char *what, int result)
{
    printf("%s: %d\n", what, result);
    return 1;
}

int main(int count, char **arguments)
{
    sgx_enclave_id_t id;
    int result = -1;
    int64_t seconds = 0, found = 0;
    char data[8] = {0};
    if (count != 3 || sgx_create_enclave(arguments[1], 1, NULL, NULL, &id, NULL) != SGX_SUCCESS)
        return failed("create", 0);
    printf("before ");
    say(id, &result, "hello");
    printf("after\n");
    now(id, &seconds);
    if (seconds < 1000000000) return failed("time", (int)seconds);
    fetch(id, &result, "file", data, sizeof data, &found);
    if (result != EACCES) return failed("not allowed", result);
    if (tee_host_allow(arguments[2], 1) != 0) return failed("allow", errno);
    store(id, &result, "file", "content", 8);
    if (result != 0) return failed("store", result);
    fetch(id, &result, "/file", data, sizeof data, &found);
    if (result != 0 || found != 8 || strcmp(data, "content") != 0) return failed("fetch", result);
    socket_of(id, &result, 2, 1);
    if (result != 0) return failed("socket", result);
    tee_host_allow(NULL, 0);
    socket_of(id, &result, 2, 1);
    if (result != EACCES) return failed("socket not allowed", result);
    drop(id, &result, "file");
    if (result != EACCES) return failed("no longer allowed", result);
    sgx_destroy_enclave(id);
    puts("done");
    return 0;
}
