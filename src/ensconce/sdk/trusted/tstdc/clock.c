/* SPDX-License-Identifier: Apache-2.0 */
/* Time, where there may be none. musl takes it for granted, and would return what happens to lie
   on the stack: here a time that cannot be told is 0, and -1 from time. */
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#include "syscall.h"

int __clock_gettime(clockid_t clock, struct timespec *time)
{
    *time = (struct timespec){0};
    return (int)__syscall_ret((unsigned long)__syscall(SYS_clock_gettime, clock, time));
}

weak_alias(__clock_gettime, clock_gettime);

time_t time(time_t *told)
{
    struct timespec now;
    time_t seconds = __clock_gettime(CLOCK_REALTIME, &now) == 0 ? now.tv_sec : (time_t)-1;
    if (told != NULL) *told = seconds;
    return seconds;
}
