/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "mbusafecrt.h"
#include "safecrt_t.h"

enum { COPY, COPY_N, APPEND, APPEND_N };

int put(char *to, size_t size, int which, const char *source, size_t length, size_t count)
{
    (void)length;
    switch (which) {
    case COPY:
        return strcpy_s(to, size, source);
    case COPY_N:
        return strncpy_s(to, size, source, count);
    case APPEND:
        return strcat_s(to, size, source);
    case APPEND_N:
        return strncat_s(to, size, source, count);
    }
    return -1;
}

int put_wide(wchar_t *to, size_t size, int which, const wchar_t *source, size_t length, size_t count)
{
    (void)length;
    switch (which) {
    case COPY:
        return wcscpy_s(to, size, source);
    case COPY_N:
        return wcsncpy_s(to, size, source, count);
    case APPEND:
        return wcscat_s(to, size, source);
    case APPEND_N:
        return wcsncat_s(to, size, source, count);
    }
    return -1;
}

int put_nowhere(int which, size_t size, size_t count)
{
    int narrow = put(NULL, size, which, "abc", 4, count);
    return narrow == put_wide(NULL, size, which, L"abc", 16, count) ? narrow : -1;
}

size_t tokens(char *text, const char *delimiters, size_t *starts, size_t most)
{
    char *context = NULL;
    size_t found = 0;
    for (char *next = strtok_s(text, delimiters, &context); next != NULL && found < most;
         next = strtok_s(NULL, delimiters, &context))
        starts[found++] = (size_t)(next - text);
    return found;
}

size_t tokens_wide(wchar_t *text, const wchar_t *delimiters, size_t *starts, size_t most)
{
    wchar_t *context = NULL;
    size_t found = 0;
    for (wchar_t *next = wcstok_s(text, delimiters, &context); next != NULL && found < most;
         next = wcstok_s(NULL, delimiters, &context))
        starts[found++] = (size_t)(next - text);
    return found;
}

int number(char *to, size_t size, int which, int64_t value, int radix)
{
    switch (which) {
    case 0:
        return _itoa_s((int)value, to, size, radix);
    case 1:
        return _ltoa_s(value, to, size, radix);
    case 2:
        return _ultoa_s((unsigned long)value, to, size, radix);
    case 3:
        return _i64toa_s(value, to, size, radix);
    case 4:
        return _ui64toa_s((unsigned long long)value, to, size, radix);
    }
    return -1;
}

int number_wide(wchar_t *to, size_t size, int which, int64_t value, int radix)
{
    switch (which) {
    case 0:
        return _itow_s((int)value, to, size, radix);
    case 1:
        return _ltow_s(value, to, size, radix);
    case 2:
        return _ultow_s((unsigned long)value, to, size, radix);
    case 3:
        return _i64tow_s(value, to, size, radix);
    case 4:
        return _ui64tow_s((unsigned long long)value, to, size, radix);
    }
    return -1;
}

static int failure;

int print(char *to, size_t size, int counted, size_t count, const char *text, int number)
{
    errno = 0;
    int length = counted ? _snprintf_s(to, size, count, "%s=%d", text, number)
                         : sprintf_s(to, size, "%s=%d", text, number);
    failure = errno;
    return length;
}

int print_wide(wchar_t *to, size_t size, int counted, size_t count, const char *text, int number)
{
    errno = 0;
    int length = counted ? _snwprintf_s(to, size, count, L"%s=%d", text, number)
                         : swprintf_s(to, size, L"%s=%d", text, number);
    failure = errno;
    return length;
}

/* Arguments that make no sense, and a character that the locale has no bytes for. */
int print_badly(int which)
{
    char narrow[8] = "before";
    wchar_t wide[8] = L"before";
    errno = 0;
    int results[] = {
        sprintf_s(which == 0 ? NULL : narrow, which == 1 ? 0 : 8, which == 2 ? NULL : "%lc",
                  (wint_t)0xd800),
        swprintf_s(which == 0 ? NULL : wide, which == 1 ? 0 : 8, which == 2 ? NULL : L"%lc",
                   (wint_t)0xd800),
    };
    failure = errno;
    if (results[0] != -1 || results[1] != -1) return 0;
    return which != 3 || (narrow[0] == 0 && wide[0] == 0);
}

int last_errno(void)
{
    return failure;
}

size_t wide_length(const wchar_t *text, size_t size)
{
    return wcsnlen(text, size / sizeof *text);
}
