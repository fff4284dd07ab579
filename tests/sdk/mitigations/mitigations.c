/* SPDX-License-Identifier: Apache-2.0 */
/* What mitigations change: calls through tables, switches, long jumps, thread data, OCALLs. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "mitigations_t.h"

static int twice(int value) { return 2 * value; }
static int square(int value) { return value * value; }
static int less(int value) { return value - 1; }

static int (*const table[])(int) = {twice, square, less};
static _Thread_local int counted;
static jmp_buf back;

int apply(int which, int value)
{
    if (which < 0 || which > 2) return -1;
    return table[which](value);
}

static void leave(int value) { longjmp(back, value); }

int jump(int value)
{
    volatile int kept = 5;
    int came = setjmp(back);
    if (came != 0) return came * 10 + kept;
    leave(value);
    return -1;
}

int count(void)
{
    counted += 3;
    return counted;
}

int print(const char *text, char *out)
{
    return snprintf(out, 64, "%s %d %.2f", text, (int)strlen(text), 1.25);
}

int through_host(int value)
{
    int answer = 0;
    return host(&answer, value) == SGX_SUCCESS ? answer : -1;
}
