/* SPDX-License-Identifier: Apache-2.0 */
/* Text with limits, for one kind of character. Who includes it defines CHAR, the names (TEXT,
   NUMBER, PRINT, ...) and `print`, which returns the characters printed, FAILED or TRUNCATED. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "mbusafecrt.h"

/* A count that nothing reaches, and that is not _TRUNCATE. */
#define UNLIMITED (_TRUNCATE - 1)
enum { FAILED = -1, TRUNCATED = -2, LONGEST_NUMBER = 64 };

static int print(CHAR *string, size_t size, const CHAR *format, va_list arguments);

static errno_t failed(CHAR *dest, errno_t why)
{
    if (dest != NULL) *dest = 0;
    errno = why;
    return why;
}

/* Put src behind the first `used` characters of dest, which has room for its end at least. */
static errno_t append(CHAR *dest, size_t used, size_t size, const CHAR *src, size_t count)
{
    size_t room = size - used;
    size_t length = LENGTH(src, count < room ? count : room);
    int all = length < room;
    if (!all && count != _TRUNCATE) return failed(dest, ERANGE);
    if (!all) length--;
    memcpy(dest + used, src, length * sizeof *dest);
    dest[used + length] = 0;
    return all ? 0 : STRUNCATE;
}

errno_t TEXT(ncpy)(CHAR *dest, size_t size, const CHAR *src, size_t count)
{
    if (dest == NULL && size == 0 && count == 0) return 0;
    if (dest == NULL || size == 0) return failed(NULL, EINVAL);
    *dest = 0;
    if (count == 0) return 0;
    return src == NULL ? failed(dest, EINVAL) : append(dest, 0, size, src, count);
}

errno_t TEXT(ncat)(CHAR *dest, size_t size, const CHAR *src, size_t count)
{
    if (dest == NULL && size == 0 && count == 0) return 0;
    if (dest == NULL || size == 0) return failed(NULL, EINVAL);
    size_t used = LENGTH(dest, size);
    if (used == size || (src == NULL && count != 0)) return failed(dest, EINVAL);
    return count == 0 ? 0 : append(dest, used, size, src, count);
}

errno_t TEXT(cpy)(CHAR *dest, size_t size, const CHAR *src)
{
    return TEXT(ncpy)(dest, size, src, UNLIMITED);
}

errno_t TEXT(cat)(CHAR *dest, size_t size, const CHAR *src)
{
    return TEXT(ncat)(dest, size, src, UNLIMITED);
}

CHAR *TEXT(tok)(CHAR *string, const CHAR *delimiters, CHAR **context)
{
    if (context == NULL || delimiters == NULL || (string == NULL && *context == NULL)) {
        errno = EINVAL;
        return NULL;
    }
    CHAR *token = string != NULL ? string : *context;
    token += SPAN(token, delimiters);
    CHAR *end = token + SPAN_WITHOUT(token, delimiters);
    *context = end;
    if (token == end) return NULL;
    if (*end != 0) {
        *end = 0;
        *context = end + 1;
    }
    return token;
}

static errno_t digits(unsigned long long value, int negative, CHAR *buffer, size_t size, int radix)
{
    CHAR reversed[LONGEST_NUMBER + 1];
    size_t length = 0;
    if (buffer == NULL || size == 0) return failed(NULL, EINVAL);
    if (size <= (negative ? 2u : 1u)) return failed(buffer, ERANGE);
    if (radix < 2 || radix > 36) return failed(buffer, EINVAL);
    if (negative) value = -value;
    do {
        reversed[length++] = (CHAR)"0123456789abcdefghijklmnopqrstuvwxyz"[value % (unsigned)radix];
        value /= (unsigned)radix;
    } while (value != 0);
    if (negative) reversed[length++] = '-';
    if (length >= size) return failed(buffer, ERANGE);
    buffer[length] = 0;
    while (length-- > 0) *buffer++ = reversed[length];
    return 0;
}

errno_t NUMBER(i)(int value, CHAR *buffer, size_t size, int radix)
{
    int negative = radix == 10 && value < 0;
    unsigned long long bits = negative ? (unsigned long long)value : (unsigned)value;
    return digits(bits, negative, buffer, size, radix);
}

errno_t NUMBER(l)(long value, CHAR *buffer, size_t size, int radix)
{
    return digits((unsigned long)value, radix == 10 && value < 0, buffer, size, radix);
}

errno_t NUMBER(ul)(unsigned long value, CHAR *buffer, size_t size, int radix)
{
    return digits(value, 0, buffer, size, radix);
}

errno_t NUMBER(i64)(long long value, CHAR *buffer, size_t size, int radix)
{
    return digits((unsigned long long)value, radix == 10 && value < 0, buffer, size, radix);
}

errno_t NUMBER(ui64)(unsigned long long value, CHAR *buffer, size_t size, int radix)
{
    return digits(value, 0, buffer, size, radix);
}

/* Print no more than `count` characters; say FAILED where the string had to be emptied. */
static int limited(CHAR *string, size_t size, size_t count, const CHAR *format, va_list arguments)
{
    size_t limit = count < size ? count + 1 : size;
    if (limit > INT_MAX) limit = INT_MAX; /* sizes that mean "as much as it takes" */
    int before = errno;
    int printed = print(string, limit, format, arguments);
    int is_cut = printed == TRUNCATED && (count < size || count == _TRUNCATE);
    if (is_cut) string[limit - 1] = 0;
    if (is_cut || printed >= 0) {
        errno = before;
        return is_cut ? FAILED : printed;
    }
    *string = 0;
    if (printed == TRUNCATED) errno = ERANGE;
    return FAILED;
}

static int invalid(void)
{
    errno = EINVAL;
    return FAILED;
}

int PRINT_LIST(CHAR *string, size_t size, const CHAR *format, va_list arguments)
{
    if (format == NULL || string == NULL || size == 0) return invalid();
    return limited(string, size, UNLIMITED, format, arguments);
}

int PRINT_N_LIST(CHAR *string, size_t size, size_t count, const CHAR *format, va_list arguments)
{
    if (format != NULL && string == NULL && size == 0 && count == 0) return 0;
    if (format == NULL || string == NULL || size == 0) return invalid();
    return limited(string, size, count, format, arguments);
}

int PRINT(CHAR *string, size_t size, const CHAR *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int printed = PRINT_LIST(string, size, format, arguments);
    va_end(arguments);
    return printed;
}

int PRINT_N(CHAR *string, size_t size, size_t count, const CHAR *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int printed = PRINT_N_LIST(string, size, count, format, arguments);
    va_end(arguments);
    return printed;
}
