# SPDX-License-Identifier: Apache-2.0
"""The C functions that generated trusted code shares; only those in use are written.

Every one that can fail takes the status so far, does nothing once it is an error, and sets it.
"""

import re
from collections.abc import Iterable
from functools import cache

__all__ = ["prelude"]

_PIECES = """
/* Stores size * count; false when the product does not fit. */
static int edl_multiply(size_t* product, size_t size, size_t count)
{
    if (size != 0 && count > SIZE_MAX / size)
        return 0;
    *product = size * count;
    return 1;
}
%%
/* True when a buffer that will be copied holds whole elements only. */
static int edl_is_whole(const void* buffer, size_t size, size_t element)
{
    return buffer == NULL || size % element == 0;
}
%%
/* True for NULL and for a buffer that lies wholly outside the enclave. */
static int edl_is_outside(const void* buffer, size_t size)
{
    return buffer == NULL || sgx_is_outside_enclave(buffer, size);
}
%%
/* True for NULL and for a buffer that lies wholly within the enclave. */
static int edl_is_within(const void* buffer, size_t size)
{
    return buffer == NULL || sgx_is_within_enclave(buffer, size);
}
%%
/* Allocates zeroed memory for a checked buffer; NULL when there is nothing to hold. */
static void* edl_zeroed(const void* outside, size_t size, sgx_status_t* status)
{
    void* inside;

    if (*status != SGX_SUCCESS || outside == NULL || size == 0)
        return NULL;
    inside = malloc(size);
    if (inside == NULL)
        *status = SGX_ERROR_OUT_OF_MEMORY;
    else
        memset(inside, 0, size);
    return inside;
}
%%
/* Copies a checked buffer into the enclave; NULL when there is nothing to copy. */
static void* edl_copy_in(const void* outside, size_t size, sgx_status_t* status)
{
    void* inside;

    if (*status != SGX_SUCCESS || outside == NULL || size == 0)
        return NULL;
    inside = malloc(size);
    if (inside == NULL)
        *status = SGX_ERROR_OUT_OF_MEMORY;
    else if (memcpy_s(inside, size, outside, size) != 0)
        *status = SGX_ERROR_UNEXPECTED;
    return inside;
}
%%
/* Copies a string in; it must end exactly where the host said. */
static char* edl_copy_string_in(const void* outside, size_t size, sgx_status_t* status)
{
    char* inside = (char*)edl_copy_in(outside, size, status);

    if (*status == SGX_SUCCESS && inside != NULL) {
        inside[size - 1] = '\\0';
        if (strlen(inside) + 1 != size)
            *status = SGX_ERROR_UNEXPECTED;
    }
    return inside;
}
%%
/* Copies a wide string in; it must end exactly where the host said. */
static wchar_t* edl_copy_wstring_in(const void* outside, size_t size, sgx_status_t* status)
{
    wchar_t* inside = NULL;

    if (size % sizeof(wchar_t) != 0 && outside != NULL && *status == SGX_SUCCESS)
        *status = SGX_ERROR_UNEXPECTED;
    inside = (wchar_t*)edl_copy_in(outside, size, status);
    if (*status == SGX_SUCCESS && inside != NULL) {
        inside[size / sizeof(wchar_t) - 1] = L'\\0';
        if (wcslen(inside) + 1 != size / sizeof(wchar_t))
            *status = SGX_ERROR_UNEXPECTED;
    }
    return inside;
}
%%
/* Copies a result to a checked buffer of the host. */
static void edl_copy_out(void* outside, const void* inside, size_t size, sgx_status_t* status)
{
    if (*status == SGX_SUCCESS && inside != NULL && size != 0
        && memcpy_verw_s(outside, size, inside, size) != 0)
        *status = SGX_ERROR_UNEXPECTED;
}
%%
/* Copies a string to the host, as far as its end. */
static void edl_copy_string_out(void* outside, char* inside, size_t size, sgx_status_t* status)
{
    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    inside[size - 1] = '\\0';
    edl_copy_out(outside, inside, strlen(inside) + 1, status);
}
%%
/* Copies a wide string to the host, as far as its end. */
static void edl_copy_wstring_out(void* outside, wchar_t* inside, size_t size,
    sgx_status_t* status)
{
    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    inside[size / sizeof(wchar_t) - 1] = L'\\0';
    edl_copy_out(outside, inside, (wcslen(inside) + 1) * sizeof(wchar_t), status);
}
%%
/* Untrusted memory that is lent to the host for one OCALL. */
typedef struct edl_arena_t {
    uint8_t* next;
    size_t left;
} edl_arena_t;
%%
/* The size of a buffer in an arena, where every buffer begins on a multiple of 16. */
#define EDL_PADDED(size) (((size) + 15) & ~(size_t)15)
%%
/* Adds a buffer to the size of the arena to be; false when the sum does not fit. */
static int edl_reserve(size_t* total, const void* buffer, size_t size)
{
    if (buffer == NULL)
        return 1;
    if (size > SIZE_MAX - 15 || EDL_PADDED(size) > SIZE_MAX - *total)
        return 0;
    *total += EDL_PADDED(size);
    return 1;
}
%%
/* Opens an arena on the untrusted stack, which must really be untrusted. */
static void edl_open(edl_arena_t* arena, size_t size, sgx_status_t* status)
{
    void* memory = sgx_ocalloc(size);

    arena->next = (uint8_t*)memory;
    arena->left = size;
    if (memory == NULL || !sgx_is_outside_enclave(memory, size))
        *status = SGX_ERROR_UNEXPECTED;
}
%%
/* Takes a buffer from an arena; NULL once the status is an error or the arena used up. */
static void* edl_take(edl_arena_t* arena, size_t size, sgx_status_t* status)
{
    uint8_t* taken = arena->next;

    if (*status != SGX_SUCCESS)
        return NULL;
    if (size > arena->left || EDL_PADDED(size) > arena->left) {
        *status = SGX_ERROR_UNEXPECTED;
        return NULL;
    }
    arena->next += EDL_PADDED(size);
    arena->left -= EDL_PADDED(size);
    return taken;
}
%%
/* Lends the host a copy of a buffer. */
static void* edl_lend(edl_arena_t* arena, const void* inside, size_t size, sgx_status_t* status)
{
    void* outside = inside == NULL ? NULL : edl_take(arena, size, status);

    if (outside != NULL && size != 0 && memcpy_verw_s(outside, size, inside, size) != 0)
        *status = SGX_ERROR_UNEXPECTED;
    return outside;
}
%%
/* Lends the host a zeroed buffer of the size of ours. */
static void* edl_lend_zeroed(edl_arena_t* arena, const void* inside, size_t size,
    sgx_status_t* status)
{
    void* outside = inside == NULL ? NULL : edl_take(arena, size, status);

    if (outside != NULL)
        memset_verw(outside, 0, size);
    return outside;
}
%%
/* Copies back what the host wrote to a lent buffer. */
static void edl_fetch(void* inside, const void* outside, size_t size, sgx_status_t* status)
{
    if (*status == SGX_SUCCESS && inside != NULL && size != 0
        && memcpy_s(inside, size, outside, size) != 0)
        *status = SGX_ERROR_UNEXPECTED;
}
%%
/* Copies a string back, ends it, and clears what lies behind its end. */
static void edl_fetch_string(char* inside, const void* outside, size_t size, sgx_status_t* status)
{
    size_t length;

    edl_fetch(inside, outside, size, status);
    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    inside[size - 1] = '\\0';
    length = strlen(inside);
    memset(inside + length, 0, size - length);
}
%%
/* Copies a wide string back, ends it, and clears what lies behind its end. */
static void edl_fetch_wstring(wchar_t* inside, const void* outside, size_t size,
    sgx_status_t* status)
{
    size_t length;

    edl_fetch(inside, outside, size, status);
    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    inside[size / sizeof(wchar_t) - 1] = L'\\0';
    length = wcslen(inside);
    memset(inside + length, 0, size - length * sizeof(wchar_t));
}
%%
/* One buffer that a structure points to: the host's, ours, and its size in bytes. */
typedef struct edl_block_t {
    void* outside;
    void* inside;
    size_t size;
} edl_block_t;
%%
/* Copies the buffer of a structure's member into the enclave and remembers both. */
static void edl_block_enter(edl_block_t* block, void* outside, size_t size, size_t count,
    size_t element, sgx_status_t* status)
{
    block->outside = outside;
    if (*status != SGX_SUCCESS || outside == NULL)
        return;
    if (!edl_multiply(&block->size, size, count) || block->size % element != 0
        || !sgx_is_outside_enclave(outside, block->size)) {
        *status = SGX_ERROR_INVALID_PARAMETER;
        return;
    }
    sgx_lfence();
    block->inside = edl_copy_in(outside, block->size, status);
}
%%
/* Copies the buffer of a structure's member to where it came from, at most as much. */
static void edl_block_leave(const edl_block_t* block, const void* inside, size_t size,
    size_t count, size_t element, sgx_status_t* status)
{
    size_t length = 0;

    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    if (!edl_multiply(&length, size, count) || length > block->size || length % element != 0
        || !sgx_is_within_enclave(inside, length)) {
        *status = SGX_ERROR_INVALID_PARAMETER;
        return;
    }
    edl_copy_out(block->outside, inside, length, status);
}
%%
/* Adds the buffer of a structure's member to the size of the arena to be. */
static void edl_block_reserve(size_t* total, const void* inside, size_t size, size_t count,
    size_t element, sgx_status_t* status)
{
    size_t length = 0;

    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    if (!edl_multiply(&length, size, count) || length % element != 0
        || !sgx_is_within_enclave(inside, length) || !edl_reserve(total, inside, length))
        *status = SGX_ERROR_INVALID_PARAMETER;
}
%%
/* Lends the host the buffer of a structure's member and remembers both. */
static void edl_block_lend(edl_block_t* block, edl_arena_t* arena, void* inside, size_t size,
    size_t count, sgx_status_t* status)
{
    if (*status != SGX_SUCCESS || inside == NULL)
        return;
    block->inside = inside;
    if (edl_multiply(&block->size, size, count) && block->size != 0)
        block->outside = edl_lend(arena, inside, block->size, status);
}
%%
/* Copies the buffer of a structure's member back, at most as much as was lent. */
static void edl_block_fetch(const edl_block_t* block, const void* outside, size_t size,
    size_t count, size_t element, sgx_status_t* status)
{
    size_t length = 0;

    if (*status != SGX_SUCCESS || block->inside == NULL)
        return;
    if (!edl_multiply(&length, size, count) || length > block->size || length % element != 0
        || (length != 0 && outside != block->outside)) {
        *status = SGX_ERROR_INVALID_PARAMETER;
        return;
    }
    edl_fetch(block->inside, block->outside, length, status);
}
"""

_DEFINED = re.compile(r"^(?:static .*?|\} |#define )((?:edl|EDL)_\w+)[(;]", re.MULTILINE)
_USED = re.compile(r"\b(?:edl|EDL)_\w+")


@cache
def _pieces() -> dict[str, str]:
    """Return the pieces by the name each defines, in order."""
    found = {}
    for piece in _PIECES.split("%%\n"):
        match = _DEFINED.search(piece)
        assert match is not None, piece  # noqa: S101 - the text stands above
        found[match[1]] = piece.strip("\n")
    return found


def prelude(texts: Iterable[str]) -> list[str]:
    """Return the shared pieces that `texts` use, and those that these use, in order."""
    pieces = _pieces()
    wanted: set[str] = set()
    pending = [name for text in texts for name in set(_USED.findall(text))]
    while pending:
        name = pending.pop()
        if name in pieces and name not in wanted:
            wanted.add(name)
            pending += _USED.findall(pieces[name])
    return [piece for name, piece in pieces.items() if name in wanted]
