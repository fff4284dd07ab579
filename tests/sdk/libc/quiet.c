/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "quiet_t.h"
#include "tee_libc.h"

int say(const char *text)
{
    return printf("%s\n", text) > 0 ? 0 : errno;
}

int64_t now(void)
{
    return time(NULL);
}

int reaches(const char *path)
{
    FILE *file = fopen(path, "r");
    int file_errno = errno;
    int made = socket(AF_INET, SOCK_STREAM, 0);
    return file != NULL || made >= 0 || file_errno != ENOSYS || errno != ENOSYS;
}

int nap(void)
{
    return usleep(1) == 0 ? 0 : errno;
}

int starts_a_program(void)
{
    char *arguments[] = {"/bin/true", NULL};
    return system("true") != -1 || execv(arguments[0], arguments) != -1 ||
           sbrk(4096) != (void *)-1;
}

uint32_t refused(int64_t number)
{
    return tee_refused_syscalls[number];
}
