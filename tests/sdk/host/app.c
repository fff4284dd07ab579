/* SPDX-License-Identifier: Apache-2.0 */
/* A host program as the vendor's documents have one: app ENCLAVE SCENARIO [FILE]. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host_u.h"
#include "sgx_urts.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                 \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

static const char *file;
static sgx_enclave_id_t id;

void print(const char *text)
{
    printf("%s\n", text);
}

int reenter(int depth)
{
    int result = 0;
    return inner(id, &result, depth) == SGX_SUCCESS ? result : -1000;
}

static void wait_for_a_line(void)
{
    puts("outside");
    fflush(stdout);
    (void)!getchar();
}

static void (*outside)(void) = wait_for_a_line;

void pause_outside(void)
{
    outside();
}

static sgx_enclave_id_t create(void)
{
    sgx_launch_token_t token = {0};
    sgx_misc_attribute_t misc;
    sgx_enclave_id_t made = 0;
    int updated = 1;
    sgx_status_t status = sgx_create_enclave(file, 1, &token, &updated, &made, &misc);
    if (status != SGX_SUCCESS) {
        printf("create 0x%x\n", status);
        exit(2);
    }
    CHECK(updated == 0);
    CHECK(misc.secs_attr.flags & SGX_FLAGS_DEBUG && misc.secs_attr.flags & SGX_FLAGS_MODE64BIT);
    return made;
}

static void calls(void)
{
    char greeting[32];
    int result = 0;
    uint64_t sum = 0;
    sgx_target_info_t target;
    id = create();
    CHECK(add(id, &result, 40, 2) == SGX_SUCCESS && result == 42);
    CHECK(greet(id, &result, "C", greeting, sizeof greeting) == SGX_SUCCESS);
    puts(greeting);
    CHECK(nest(id, &result, 5) == SGX_SUCCESS && result == 105);
    CHECK(inner(id, &result, 0) == SGX_ERROR_ECALL_NOT_ALLOWED);
    CHECK(report(id, &result) == SGX_SUCCESS && result == 0);
    CHECK(has_sgx(id, &result) == SGX_SUCCESS && result == 1);
    CHECK(wait_for_nobody(id, &result) == SGX_SUCCESS && result == 1);
    CHECK(sum_on_heap(id, &sum, 256) == SGX_SUCCESS && sum == 3 * 255 * 128);
    CHECK(sgx_get_target_info(id, &target) == SGX_SUCCESS && target.attributes.flags & 1);
    CHECK(sgx_ecall(id, 1000, NULL, NULL) == SGX_ERROR_INVALID_FUNCTION);
    CHECK(sgx_ecall(id, -1, NULL, NULL) == SGX_ERROR_INVALID_FUNCTION);
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
    CHECK(sgx_destroy_enclave(id) == SGX_ERROR_INVALID_ENCLAVE_ID);
    CHECK(add(id, &result, 1, 1) == SGX_ERROR_INVALID_ENCLAVE_ID);
}

static void exceptions(void)
{
    int result = 0;
    id = create();
    CHECK(rescue(id, &result, 6, 3) == SGX_SUCCESS && result == 2);
    CHECK(rescue(id, &result, 6, 0) == SGX_SUCCESS && result == 77);
    CHECK(give_up(id) == SGX_ERROR_ENCLAVE_CRASHED);
    CHECK(add(id, &result, 1, 1) == SGX_ERROR_ENCLAVE_CRASHED);
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

static void *work(void *argument)
{
    int result = 0;
    for (int i = 0; i < 500; i++) {
        CHECK(add(id, &result, i, 1) == SGX_SUCCESS && result == i + 1);
        CHECK(nest(id, &result, 2) == SGX_SUCCESS && result == 102);
    }
    return argument;
}

static void threads(void)
{
    pthread_t thread[4];
    id = create();
    for (int round = 0; round < 3; round++) { /* threads that end give their TCSs back */
        for (int i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, work, NULL) == 0);
        for (int i = 0; i < 4; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    }
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

static void two(void)
{
    int result = 0;
    sgx_enclave_id_t other = create();
    id = create();
    CHECK(id != other);
    CHECK(give_up(other) == SGX_ERROR_ENCLAVE_CRASHED);
    CHECK(add(id, &result, 3, 4) == SGX_SUCCESS && result == 7);
    CHECK(sgx_destroy_enclave(other) == SGX_SUCCESS);
    CHECK(add(id, &result, 3, 4) == SGX_SUCCESS && result == 7);
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    alarms += number == SIGALRM;
}

static void signals(void)
{
    uint64_t count = 0;
    struct sigaction action = {.sa_handler = on_alarm};
    id = create();
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    ualarm(1000, 1000);
    CHECK(spin(id, &count, 50000000) == SGX_SUCCESS && count == 50000000);
    ualarm(0, 0);
    CHECK(alarms > 3);
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

static void buffer(void)
{
    static uint8_t content[1 << 22];
    int result = 0;
    FILE *stream = fopen(file, "rb");
    CHECK(stream != NULL);
    size_t size = fread(content, 1, sizeof content, stream);
    fclose(stream);
    CHECK(sgx_create_enclave_from_buffer_ex(content, size, 1, &id, NULL, 0, NULL) == SGX_SUCCESS);
    CHECK(add(id, &result, 1, 1) == SGX_SUCCESS && result == 2);
}

static void lost(int inside)
{
    int result = 0;
    uint64_t count = 0;
    id = create();
    if (inside) {
        puts("inside");
        fflush(stdout);
        printf("0x%x\n", spin(id, &count, UINT64_MAX));
    } else {
        printf("0x%x\n", wait_outside(id, &result));
    }
    printf("0x%x\n", add(id, &result, 1, 1));
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
    id = create();
    CHECK(add(id, &result, 1, 1) == SGX_SUCCESS && result == 2);
}

/* As on the vendor's: a child has none of its parent's enclaves, and may make its own. */
static void forks(void)
{
    int result = 0, status = 1;
    id = create();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(add(id, &result, 1, 1) == SGX_ERROR_ENCLAVE_LOST);
        CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
        id = create();
        CHECK(add(id, &result, 2, 2) == SGX_SUCCESS && result == 4);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(add(id, &result, 1, 1) == SGX_SUCCESS && result == 2);
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

static sgx_status_t create_ex(int debug, uint32_t features, const void *const *pointers)
{
    return sgx_create_enclave_ex(file, debug, NULL, NULL, &id, NULL, features,
                                 (const void **)pointers);
}

/* Of an enclave without KSS that may be debugged. */
static void arguments_fit(void)
{
    const sgx_kss_config_t kss = {.config_id = {1}};
    const void *none[32] = {NULL}, *configured[32] = {[SGX_CREATE_ENCLAVE_EX_KSS_BIT_IDX] = &kss};
    const void *unknown[32] = {[31] = &kss};
    CHECK(create_ex(2, 0, NULL) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, 1 << 3, none) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, 0, configured) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, SGX_CREATE_ENCLAVE_EX_SWITCHLESS, unknown) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, SGX_CREATE_ENCLAVE_EX_KSS, NULL) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, SGX_CREATE_ENCLAVE_EX_KSS, none) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(1, SGX_CREATE_ENCLAVE_EX_KSS, configured) ==
          SGX_ERROR_FEATURE_NOT_SUPPORTED);
    CHECK(sgx_create_enclave(file, 1, NULL, NULL, NULL, NULL) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_create_enclave(NULL, 1, NULL, NULL, &id, NULL) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(create_ex(0, SGX_CREATE_ENCLAVE_EX_SWITCHLESS, none) == SGX_SUCCESS);
}

/* Of an enclave with KSS. */
static void configured(void)
{
    const sgx_kss_config_t kss = {.config_id = {1, 2, 3}, .config_svn = 7};
    const void *pointers[32] = {[SGX_CREATE_ENCLAVE_EX_KSS_BIT_IDX] = &kss};
    sgx_target_info_t target;
    int result = -1;
    CHECK(create_ex(1, SGX_CREATE_ENCLAVE_EX_KSS, pointers) == SGX_SUCCESS);
    CHECK(sgx_get_target_info(id, &target) == SGX_SUCCESS && target.config_svn == 7);
    CHECK(memcmp(target.config_id, kss.config_id, sizeof kss.config_id) == 0);
    CHECK(report(id, &result) == SGX_SUCCESS && result == 0);
}

/* Of an enclave that nobody may debug. */
static void production(void)
{
    int result = 0;
    CHECK(create_ex(1, 0, NULL) == SGX_ERROR_NDEBUG_ENCLAVE);
    CHECK(create_ex(0, 0, NULL) == SGX_SUCCESS);
    CHECK(add(id, &result, 1, 1) == SGX_SUCCESS && result == 2);
}

static size_t lines_of(const char *path)
{
    size_t count = 0;
    FILE *stream = fopen(path, "r");
    CHECK(stream != NULL);
    for (int c; (c = getc(stream)) != EOF;) count += c == '\n';
    fclose(stream);
    return count;
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) count++;
    closedir(folder);
    return count;
}

static long resident_pages(void)
{
    long size = 0, resident = 0;
    FILE *stream = fopen("/proc/self/statm", "r");
    CHECK(stream != NULL && fscanf(stream, "%ld %ld", &size, &resident) == 2);
    fclose(stream);
    return resident;
}

static void *use_from_a_thread(void *argument)
{
    int result = 0;
    CHECK(add(id, &result, 20, 3) == SGX_SUCCESS && result == 23);
    return argument;
}

static void cycle(int count)
{
    pthread_t thread;
    for (int i = 0; i < count; i++) {
        id = create();
        use_from_a_thread(NULL);
        CHECK(pthread_create(&thread, NULL, use_from_a_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
    }
}

/* Neither descriptors nor mappings nor memory are left behind. Between the halves it says so. */
static void cycles(int count)
{
    cycle(10);
    size_t files = open_files(), maps = lines_of("/proc/self/maps");
    long resident = resident_pages();
    wait_for_a_line();
    cycle(count);
    CHECK(open_files() == files && lines_of("/proc/self/maps") == maps);
    CHECK(resident_pages() - resident < 64 + count / 10);
    wait_for_a_line();
}

static atomic_int came_outside;
static atomic_bool may_return;

static void linger(void)
{
    came_outside++;
    while (!may_return) usleep(1000);
}

static void *call_out(void *expected)
{
    int result = 0;
    CHECK(wait_outside(id, &result) == *(sgx_status_t *)expected);
    return expected;
}

static void *run_inside(void *expected)
{
    uint64_t count = 0;
    CHECK(spin(id, &count, 50000000) == SGX_SUCCESS && count == 50000000);
    return expected;
}

static void destroy_own(void)
{
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
}

/* While one thread is in an OCALL, another in the enclave; and from an OCALL of its own. */
static void destroys(void)
{
    sgx_status_t lost = SGX_ERROR_ENCLAVE_LOST;
    int result = 0;
    pthread_t caller, runner;
    outside = linger;
    id = create();
    CHECK(pthread_create(&caller, NULL, call_out, &lost) == 0);
    CHECK(pthread_create(&runner, NULL, run_inside, &lost) == 0);
    while (!came_outside) usleep(1000);
    usleep(20000); /* `runner` has entered by now, or finds the same as if it had */
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
    may_return = true;
    CHECK(pthread_join(caller, NULL) == 0 && pthread_join(runner, NULL) == 0);
    CHECK(add(id, &result, 1, 1) == SGX_ERROR_INVALID_ENCLAVE_ID);
    outside = destroy_own;
    id = create();
    call_out(&lost);
}

static pid_t child_of_ocall;

static void fork_outside(void)
{
    child_of_ocall = fork();
    CHECK(child_of_ocall >= 0);
}

/* Both come back from the OCALL: the parent into its enclave, the child to nothing. */
static void forks_outside(void)
{
    int result = 0, status = 1;
    outside = fork_outside;
    id = create();
    sgx_status_t came_back = wait_outside(id, &result);
    if (child_of_ocall == 0) _exit(came_back != SGX_ERROR_ENCLAVE_LOST);
    CHECK(came_back == SGX_SUCCESS);
    CHECK(waitpid(child_of_ocall, &status, 0) == child_of_ocall && status == 0);
    CHECK(add(id, &result, 1, 1) == SGX_SUCCESS && result == 2);
}

static void *run_for_ever(void *argument)
{
    uint64_t count = 0;
    came_outside++;
    spin(id, &count, UINT64_MAX);
    return argument;
}

/* A program may end with threads in its enclave. */
static void leaves(void)
{
    pthread_t thread;
    id = create();
    CHECK(pthread_create(&thread, NULL, run_for_ever, NULL) == 0);
    while (!came_outside) usleep(1000);
    usleep(20000);
}

static void keep(const char *path)
{
    uint8_t sealed[1024];
    uint32_t size = 0;
    int result = -1;
    FILE *stream = fopen(path, "wb");
    id = create();
    CHECK(sealed_size(id, &size, 6) == SGX_SUCCESS && size <= sizeof sealed && stream != NULL);
    CHECK(seal(id, &result, (const uint8_t *)"secret", 6, sealed, size) == SGX_SUCCESS);
    CHECK(result == 0 && fwrite(sealed, 1, size, stream) == size && fclose(stream) == 0);
}

static void recall(const char *path)
{
    uint8_t sealed[1024], secret[7] = {0};
    int result = -1;
    FILE *stream = fopen(path, "rb");
    CHECK(stream != NULL);
    uint32_t size = (uint32_t)fread(sealed, 1, sizeof sealed, stream);
    id = create();
    CHECK(unseal(id, &result, sealed, size, secret, 6) == SGX_SUCCESS && result == 0);
    puts((const char *)secret);
}

/* Touch so many pages of heap, and tell how that went. */
static void fill(size_t pages)
{
    uint64_t sum = 0;
    id = create();
    printf("0x%x\n", sum_on_heap(id, &sum, pages));
    fflush(stdout);
    wait_for_a_line();
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"calls", calls},           {"exceptions", exceptions}, {"threads", threads},
    {"two", two},               {"signals", signals},       {"buffer", buffer},
    {"forks", forks},           {"arguments", arguments_fit}, {"configured", configured},
    {"production", production}, {"destroys", destroys},     {"forks-outside", forks_outside},
    {"leaves", leaves},
};

int main(int count, char **arguments)
{
    CHECK(count >= 3);
    file = arguments[1];
    const char *scenario = arguments[2];
    size_t at = 0;
    while (at < sizeof scenarios / sizeof *scenarios && strcmp(scenario, scenarios[at].name) != 0)
        at++;
    if (at < sizeof scenarios / sizeof *scenarios) scenarios[at].run();
    else if (strcmp(scenario, "lost-inside") == 0) lost(1);
    else if (strcmp(scenario, "lost-outside") == 0) lost(0);
    else if (strcmp(scenario, "cycles") == 0) cycles(atoi(arguments[3]));
    else if (strcmp(scenario, "fill") == 0) fill((size_t)atoi(arguments[3]));
    else if (strcmp(scenario, "keep") == 0) keep(arguments[3]);
    else if (strcmp(scenario, "recall") == 0) recall(arguments[3]);
    else return 3;
    puts("done");
    return 0;
}
