/* SPDX-License-Identifier: Apache-2.0 */
/* The "secure" functions: they know the size of their destination, in characters for text.
   Each returns 0 or sets errno and returns it: EINVAL for arguments that make no sense, ERANGE
   for a destination that is too small, which is then the empty string, or zeros. */
#ifndef MBUSAFECRT_H
#define MBUSAFECRT_H

#include <stdarg.h>
#include <string.h>
#include <wchar.h>

#include "tee_string.h"

typedef wchar_t WCHAR;

/* As a count: take what fits. The answer is then STRUNCATE where not all did, and errno stays. */
#ifndef _TRUNCATE
#define _TRUNCATE ((size_t)-1)
#endif
#define STRUNCATE 80

#ifdef __cplusplus
extern "C" {
#endif

errno_t memcpy_s(void *dest, size_t size, const void *src, size_t count);
errno_t memmove_s(void *dest, size_t size, const void *src, size_t count);
errno_t memcpy_verw_s(void *dest, size_t size, const void *src, size_t count);
errno_t memmove_verw_s(void *dest, size_t size, const void *src, size_t count);

errno_t strcpy_s(char *dest, size_t size, const char *src);
errno_t wcscpy_s(WCHAR *dest, size_t size, const WCHAR *src);
errno_t strcat_s(char *dest, size_t size, const char *src);
errno_t wcscat_s(WCHAR *dest, size_t size, const WCHAR *src);

/* `count` characters of src at most. */
errno_t strncpy_s(char *dest, size_t size, const char *src, size_t count);
errno_t wcsncpy_s(WCHAR *dest, size_t size, const WCHAR *src, size_t count);
errno_t strncat_s(char *dest, size_t size, const char *src, size_t count);
errno_t wcsncat_s(WCHAR *dest, size_t size, const WCHAR *src, size_t count);

/* The next token, ended in place, of `string` or, when it is NULL, of what *context remembers. */
char *strtok_s(char *string, const char *delimiters, char **context);
WCHAR *wcstok_s(WCHAR *string, const WCHAR *delimiters, WCHAR **context);

#ifndef __cplusplus /* there, wchar.h always has it */
/* wchar.h has it too, unless the C dialect is strict. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
size_t wcsnlen(const WCHAR *string, size_t size);
#pragma GCC diagnostic pop
#endif

/* Digits of a number in base 2 to 36; only in base 10 is there a sign. */
errno_t _itoa_s(int value, char *buffer, size_t size, int radix);
errno_t _itow_s(int value, WCHAR *buffer, size_t size, int radix);
errno_t _ltoa_s(long value, char *buffer, size_t size, int radix);
errno_t _ltow_s(long value, WCHAR *buffer, size_t size, int radix);
errno_t _ultoa_s(unsigned long value, char *buffer, size_t size, int radix);
errno_t _ultow_s(unsigned long value, WCHAR *buffer, size_t size, int radix);
errno_t _i64toa_s(long long value, char *buffer, size_t size, int radix);
errno_t _i64tow_s(long long value, WCHAR *buffer, size_t size, int radix);
errno_t _ui64toa_s(unsigned long long value, char *buffer, size_t size, int radix);
errno_t _ui64tow_s(unsigned long long value, WCHAR *buffer, size_t size, int radix);

/* The number of characters printed, or -1. With a count, more characters than it are cut off: -1,
   with the first ones in the string. Else what does not fit leaves an empty string and ERANGE. */
int sprintf_s(char *string, size_t size, const char *format, ...);
int swprintf_s(WCHAR *string, size_t size, const WCHAR *format, ...);
int _vsprintf_s(char *string, size_t size, const char *format, va_list arguments);
int _vswprintf_s(WCHAR *string, size_t size, const WCHAR *format, va_list arguments);
int _snprintf_s(char *string, size_t size, size_t count, const char *format, ...);
int _snwprintf_s(WCHAR *string, size_t size, size_t count, const WCHAR *format, ...);
int _vsnprintf_s(char *string, size_t size, size_t count, const char *format, va_list arguments);
int _vsnwprintf_s(WCHAR *string, size_t size, size_t count, const WCHAR *format,
                  va_list arguments);

#ifdef __cplusplus
}
#endif

#endif
