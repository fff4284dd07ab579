/* SPDX-License-Identifier: Apache-2.0 */
/* ECALLs and OCALLs of sample.edl, each its own bridge. HEAP is where the test puts the heap. */
#include <stddef.h>
#include <stdint.h>

#define GS(offset) (*(volatile uint64_t __seg_gs *)(offset))
#define STATUS_CRASHED 0x1006
#define STATUS_INVALID_FUNCTION 0x1001

long do_ocall(long number, void *ms);
extern char enclave_entry[];

struct point { int32_t x, y; };
struct list { size_t count; uint32_t *items; uint64_t total; };

/* Room on the untrusted stack until the ECALL ends. */
static void *ocalloc(size_t size)
{
    GS(24) = (GS(24) - 128 - size) & ~63ull;
    return (void *)GS(24);
}

static size_t length(const char *text)
{
    size_t n = 0;
    while (((volatile const char *)text)[n])
        n++;
    return n;
}

static int64_t number_ocall(long number, int64_t value, long *status)
{
    struct { int64_t retval, value; } *ms = ocalloc(sizeof *ms);
    ms->value = value;
    *status = do_ocall(number, ms);
    return *status ? -1000 - *status : ms->retval;
}

static uint64_t deep_ocall(int64_t value, long *status)
{
    struct { uint64_t retval; struct list *list; } *ms = ocalloc(sizeof *ms);
    ms->list = ocalloc(sizeof(struct list));
    ms->list->items = ocalloc(3 * sizeof(uint32_t));
    ms->list->count = 3;
    ms->list->total = 0;
    for (int i = 0; i < 3; i++)
        ms->list->items[i] = (uint32_t)value + i;
    *status = do_ocall(6, ms);
    return ms->retval * 1000000 + ms->list->total * 1000 + ms->list->items[2];
}

static int64_t change_ocall(long *status)
{
    struct { char *text; struct point *point; double by; } *ms = ocalloc(sizeof *ms);
    ms->text = ocalloc(8);
    ms->point = ocalloc(sizeof *ms->point);
    ms->by = 2.5;
    for (int i = 0; i < 6; i++)
        ms->text[i] = "before"[i];
    ms->text[6] = 0;
    ms->point->x = 3;
    ms->point->y = -4;
    *status = do_ocall(7, ms);
    return ms->text[0] << 8 | ms->text[5];
}

static int64_t converse(int what, int64_t value, long *status)
{
    if (what == 1 || what == 2) {
        struct a { uint8_t *data; size_t n; } *in;
        struct b { int retval; uint8_t *data; size_t n; } *out;
        uint8_t *data = ocalloc((size_t)value);
        if (what == 1) {
            in = ocalloc(sizeof *in);
            in->data = data;
            in->n = (size_t)value;
            for (int64_t i = 0; i < value; i++)
                data[i] = (uint8_t)i;
            *status = do_ocall(2, in);
            return 0;
        }
        out = ocalloc(sizeof *out);
        out->data = data;
        out->n = (size_t)value;
        *status = do_ocall(3, out);
        int64_t sum = 0;
        for (int64_t i = 0; i < value; i++)
            sum += data[i];
        return out->retval * 100000 + sum;
    }
    if (what == 3) {
        struct { size_t retval; char *text; int32_t *wide; } *ms = ocalloc(sizeof *ms);
        ms->text = ocalloc(8);
        ms->wide = ocalloc(16);
        ms->text[0] = 'h', ms->text[1] = '\xc3', ms->text[2] = '\xa9', ms->text[3] = 0;
        ms->wide[0] = 0x1f512, ms->wide[1] = 'k', ms->wide[2] = 0;
        *status = do_ocall(4, ms);
        return (int64_t)ms->retval;
    }
    if (what == 4) {
        struct { int retval, error, code; } *ms = ocalloc(sizeof *ms);
        ms->code = (int)value;
        *status = do_ocall(5, ms);
        return ms->retval * 1000 + ms->error;
    }
    if (what == 5)
        return (int64_t)deep_ocall(value, status);
    if (what == 6)
        return change_ocall(status);
    if (what == 7) {
        struct { uint8_t *data; size_t n; } *ms = ocalloc(sizeof *ms);
        ms->data = (uint8_t *)enclave_entry;
        ms->n = (size_t)value;
        return do_ocall(8, ms);
    }
    return do_ocall(what, ocalloc(64)); /* an OCALL that is not in the EDL */
}

static void crash(int how)
{
    GS(32) = how == 3 ? 3 : 0;
    if (how == 1)
        *(volatile int *)8 = 1;
    else if (how == 2)
        *(volatile char *)enclave_entry = 0;
    else
        __asm__ volatile("ud2");
}

static int64_t survive(int64_t times, int notify)
{
    int64_t handled = 0;
    GS(32) = notify ? 2 : 1;
    for (int64_t i = 0; i < times; i++) {
        uint64_t before = GS(40);
        __asm__ volatile("ud2" ::: "memory");
        handled += (int64_t)(GS(40) - before);
    }
    GS(32) = 0;
    return handled;
}

static uint64_t heap(uint64_t pages, uint64_t seed, int write)
{
    uint64_t good = 0;
    for (uint64_t page = 0; page < pages; page++) {
        volatile uint64_t *at = (uint64_t *)(enclave_entry + HEAP + page * 4096);
        for (int i = 0; i < 512; i += 64) {
            if (write)
                at[i] = seed * 31 + page * 7 + (uint64_t)i;
            good += at[i] == seed * 31 + page * 7 + (uint64_t)i;
        }
    }
    return good;
}

static void reverse(const uint8_t *from, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[n - 1 - i];
}

static void copy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
}

/* EREPORT (0) or EGETKEY (1), whose operands must lie aligned in the enclave. */
static uint32_t leaf(uint32_t number, const uint8_t *in, const uint8_t *more, uint8_t *out)
{
    uint8_t room[4 * 512];
    uint8_t *request = room + (-(uintptr_t)room & 511), *data = request + 512, *result = data + 512;
    uint64_t status = number;

    copy(request, in, 512);
    if (number == 0)
        copy(data, more, 64);
    __asm__ volatile(".byte 0x0f, 0x01, 0xd7"
                     : "+a"(status)
                     : "b"(request), "c"(number ? result : data), "d"(result)
                     : "memory", "cc");
    copy(out, result, number ? 16 : 432);
    return (uint32_t)status;
}

static uint32_t accept(char *page, uint64_t flags)
{
    uint64_t room[16] = {0}, *secinfo = (uint64_t *)(((uintptr_t)room + 63) & ~63ull);
    uint64_t status = 5;

    secinfo[0] = flags;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd7"
                     : "+a"(status)
                     : "b"(secinfo), "c"(page)
                     : "memory", "cc");
    return (uint32_t)status;
}

/* One of the runtime's own OCALLs: -6 maps a range, -7 changes type or permissions. */
static int ask(long number, char *start, size_t size, uint32_t first, uint32_t second)
{
    struct { int32_t retval; char *start; size_t size; uint32_t first, second; } *ms;

    ms = ocalloc(sizeof *ms);
    ms->start = start;
    ms->size = size;
    ms->first = first;
    ms->second = second;
    long status = do_ocall(number, ms);
    return status ? (int)status : ms->retval;
}

/* Add pages, use them, take the right to write, trim and remove them; 0 or the step that failed. */
static uint64_t dynamic(char *start, uint64_t pages)
{
    size_t size = pages * 4096;
    enum { RW = 0x203, R = 0x201, TRIM = 0x400 };

    if (ask(-6, start, size, RW, 0))
        return 1;
    for (size_t at = 0; at < size; at += 4096) {
        if (accept(start + at, RW | 8))
            return 2;
        start[at] = (char)(at >> 12);
    }
    for (size_t at = 0; at < size; at += 4096)
        if (start[at] != (char)(at >> 12) || start[at + 1])
            return 3;
    if (ask(-7, start, size, RW, R))
        return 4;
    for (size_t at = 0; at < size; at += 4096)
        if (accept(start + at, R | 0x20) || start[at] != (char)(at >> 12))
            return 5;
    if (ask(-7, start, size, R, TRIM | 1))
        return 6;
    for (size_t at = 0; at < size; at += 4096)
        if (accept(start + at, TRIM | 0x10))
            return 7;
    return ask(-7, start, size, TRIM, TRIM) ? 8 : 0;
}

struct words { uint64_t a, b, c, d; };

static long data(long number, struct words *ms)
{
    switch (number) {
    case 3:
        reverse((uint8_t *)ms->b, (uint8_t *)ms->c, ms->d);
        ms->a = ms->d;
        return 0;
    case 4: {
        char *text = (char *)ms->b;
        for (size_t i = 0; i + 1 < ms->c; i++)
            text[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i]);
        ms->a = ms->c;
        return 0;
    }
    case 5:
        ms->a = ms->b ? length((char *)ms->b) * 1000 + ms->c : 0;
        return 0;
    case 6:
        ms->a = ms->c;
        return 0;
    case 7:
        ms->a = *(uint64_t *)ms->b;
        return 0;
    case 8:
        for (size_t i = 0; i < ms->b; i++)
            ((int32_t *)ms->a)[i] *= 2;
        return 0;
    case 9: {
        struct point *points = (struct point *)ms;
        points[0].x = points[1].y;
        points[0].y = points[1].x;
        return 0;
    }
    case 10: {
        struct list *list = (struct list *)ms->b;
        list->total = 0;
        for (size_t i = 0; i < list->count; i++)
            list->total += list->items[i]++;
        ms->a = list->total;
        return 0;
    }
    case 11: {
        int32_t *m = (int32_t *)ms->b;
        *(int32_t *)ms = m[0] + m[1] + m[2] + 10 * (m[3] + m[4] + m[5]);
        return 0;
    }
    }
    return STATUS_INVALID_FUNCTION;
}

long dispatch(long number, void *memory)
{
    struct words *ms = memory;
    int32_t *half = memory;
    long status = 0;
    switch (number) {
    case 0:
    case 24:
    case -1:
        return 0;
    case 1:
        ms->a = ms->b + ms->c;
        return 0;
    case 2:
        *(double *)&ms->a = *(double *)&ms->b * *(float *)&ms->c;
        return 0;
    case 12:
        half[0] = half[1] + 1;
        return 0;
    case 13:
        half[0] = half[1] ^ 0xffff;
        return 0;
    case 14:
    case 15:
        ms->a = (uint64_t)number_ocall(number - 14, (int64_t)ms->b, &status);
        return 0;
    case 16:
        crash(half[0]);
        return 0;
    case 17:
        ms->a = (uint64_t)survive((int64_t)ms->b, 0);
        return 0;
    case 29:
        ms->a = (uint64_t)survive((int64_t)ms->b, 1);
        return 0;
    case 18:
        for (ms->a = 0; !*(volatile uint64_t *)ms->b; ms->a++)
            __asm__ volatile("pause");
        return 0;
    case 19:
        ms->a = GS(16);
        return 0;
    case 20:
    case 21:
        ms->a = heap(ms->b, ms->c, number == 20);
        return 0;
    case 22:
        return half[0];
    case 23:
        ms->a = (uint64_t)converse(half[2], (int64_t)ms->c, &status);
        return 0;
    case 25:
        return 0x1007;
    case 26:
        leaf(0, (uint8_t *)ms->a, (uint8_t *)ms->b, (uint8_t *)ms->c);
        return 0;
    case 27:
        half[0] = (int32_t)leaf(1, (uint8_t *)ms->b, 0, (uint8_t *)ms->c);
        return 0;
    }
    if (number == 28) {
        ms->a = dynamic(enclave_entry + ms->b, ms->c);
        return 0;
    }
    return data(number, ms);
}

/* The first frame of the SSA follows the TCS; RIP is at 136 of its last 184 bytes. */
long handle(char *tcs, uint64_t cssa)
{
    uint64_t *rip = (uint64_t *)(tcs + 0x2000 - 184 + 136);
    GS(40)++;
    if (cssa != 1)
        return STATUS_CRASHED;
    if (GS(32) == 3)
        __asm__ volatile("ud2");
    if (GS(32) != 1)
        return STATUS_CRASHED;
    *rip += 2;
    return 0;
}
