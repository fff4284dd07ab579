/* SPDX-License-Identifier: Apache-2.0 */
/* Text of char with limits. */
#include <stdio.h>

#define CHAR char
#define TEXT(what) str##what##_s
#define NUMBER(type) _##type##toa_s
#define LENGTH strnlen
#define SPAN strspn
#define SPAN_WITHOUT strcspn
#define PRINT sprintf_s
#define PRINT_LIST _vsprintf_s
#define PRINT_N _snprintf_s
#define PRINT_N_LIST _vsnprintf_s

#include "safecrt_text.h"

static int print(char *string, size_t size, const char *format, va_list arguments)
{
    int length = vsnprintf(string, size, format, arguments);
    if (length < 0) return FAILED;
    return (size_t)length < size ? length : TRUNCATED;
}
