/* SPDX-License-Identifier: Apache-2.0 */
/* Text of wchar_t with limits. */
#include <wchar.h>

#define CHAR wchar_t
#define TEXT(what) wcs##what##_s
#define NUMBER(type) _##type##tow_s
#define LENGTH wcsnlen
#define SPAN wcsspn
#define SPAN_WITHOUT wcscspn
#define PRINT swprintf_s
#define PRINT_LIST _vswprintf_s
#define PRINT_N _snwprintf_s
#define PRINT_N_LIST _vsnwprintf_s

#include "safecrt_text.h"

/* The libc answers both failures with -1, and sets errno for all but the lack of room. */
static int print(wchar_t *string, size_t size, const wchar_t *format, va_list arguments)
{
    errno = 0;
    int length = vswprintf(string, size, format, arguments);
    if (length >= 0) return length;
    return errno == 0 ? TRUNCATED : FAILED;
}
