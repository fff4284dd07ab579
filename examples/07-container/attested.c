/* SPDX-License-Identifier: Apache-2.0 */
/* Print a quote of hello world's enclave in base64, made by the node's AESM.
 *
 *     attested [TEXT [ENCLAVE]]
 *
 * TEXT, such as a relying party's nonce, becomes the quote's report data. The daemon's protocol is
 * a length and a message of protobuf's, one request and one answer to a connection. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "enclave_u.h"
#include "sgx_urts.h"

static const char daemon_socket[] = "/var/run/aesmd/aesm.socket";

enum { INIT_QUOTE = 15, QUOTE_SIZE = 16, GET_QUOTE = 17, SELECT_KEY = 19 }; /* requests */
enum { NUMBER = 0, BYTES = 2 };                                             /* wire types */
enum { MOST = 1 << 16 };

struct message {
    uint8_t bytes[MOST];
    size_t size;
};

static void fail(const char *what, uint64_t code)
{
    fprintf(stderr, "%s failed: 0x%04llx\n", what, (unsigned long long)code);
    exit(1);
}

void print(const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void add_varint(struct message *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) to->bytes[to->size++] = (uint8_t)(value | 0x80);
    to->bytes[to->size++] = (uint8_t)value;
}

static void add_number(struct message *to, unsigned field, uint64_t value)
{
    add_varint(to, field << 3 | NUMBER);
    add_varint(to, value);
}

static void add_bytes(struct message *to, unsigned field, const void *from, size_t size)
{
    add_varint(to, field << 3 | BYTES);
    add_varint(to, size);
    memcpy(to->bytes + to->size, from, size);
    to->size += size;
}

static bool read_varint(const struct message *from, size_t *at, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && *at < from->size; shift += 7) {
        uint8_t byte = from->bytes[(*at)++];
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* Find a field: its number, or where its bytes are and how many. */
static bool find(const struct message *in, unsigned field, uint64_t *value, const uint8_t **bytes)
{
    uint64_t tag = 0;
    for (size_t at = 0; at < in->size;) {
        if (!read_varint(in, &at, &tag) || !read_varint(in, &at, value)) return false;
        *bytes = in->bytes + at;
        if ((tag & 7) == BYTES) {
            if (*value > in->size - at) return false;
            at += *value;
        } else if ((tag & 7) != NUMBER) {
            return false;
        }
        if (tag >> 3 == field) return true;
    }
    return false;
}

static bool move_all(int fd, void *bytes, size_t size, bool out)
{
    for (size_t done = 0; done < size;) {
        uint8_t *at = (uint8_t *)bytes + done;
        ssize_t moved = out ? write(fd, at, size - done) : read(fd, at, size - done);
        if (moved <= 0) return false;
        done += (size_t)moved;
    }
    return true;
}

/* Ask the daemon, and leave its answer in the place of the request. */
static void ask(const char *what, unsigned request, struct message *body)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static struct message whole, answer;
    const uint8_t *inner;
    uint64_t size, code;
    uint32_t length;

    whole.size = 0;
    add_bytes(&whole, request, body->bytes, body->size);
    length = (uint32_t)whole.size;
    strcpy(address.sun_path, daemon_socket);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(daemon_socket);
        exit(1);
    }
    if (!move_all(fd, &length, sizeof length, true) ||
        !move_all(fd, whole.bytes, whole.size, true) ||
        !move_all(fd, &length, sizeof length, false) || length > sizeof answer.bytes ||
        !move_all(fd, answer.bytes, length, false))
        fail(what, 0);
    close(fd);
    answer.size = length;
    if (!find(&answer, request, &size, &inner)) fail(what, 1);
    memcpy(body->bytes, inner, size);
    body->size = size;
    if (find(body, 1, &code, &inner) && code != 0) fail(what, code);
}

/* Copy a field of bytes that has to have a certain size. */
static void copy(const char *what, const struct message *from, unsigned field, void *to, size_t size)
{
    const uint8_t *bytes;
    uint64_t length;
    if (!find(from, field, &length, &bytes) || length != size) fail(what, 2);
    memcpy(to, bytes, size);
}

static void print_base64(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t group = (uint32_t)bytes[at] << 16 | (left > 1 ? bytes[at + 1] << 8 : 0) |
                         (left > 2 ? bytes[at + 2] : 0);
        putchar(digits[group >> 18]);
        putchar(digits[group >> 12 & 63]);
        putchar(left > 1 ? digits[group >> 6 & 63] : '=');
        putchar(left > 2 ? digits[group & 63] : '=');
    }
    putchar('\n');
}

int main(int count, char **arguments)
{
    static struct message body;
    uint8_t key[256];
    sgx_target_info_t target;
    sgx_report_data_t data = {0};
    sgx_report_t report_of_ours;
    sgx_enclave_id_t id;
    const uint8_t *bytes;
    uint64_t size;
    int result = -1;

    if (count > 1) memcpy(data.d, arguments[1], strnlen(arguments[1], sizeof data.d));
    const char *file = count > 2 ? arguments[2] : "/app/enclave.signed.so";
    sgx_status_t status = sgx_create_enclave(file, 1, NULL, NULL, &id, NULL);
    if (status != SGX_SUCCESS) fail(file, status);

    ask("choosing a key", SELECT_KEY, &body);
    copy("choosing a key", &body, 2, key, sizeof key);

    body.size = 0;
    add_bytes(&body, 1, key, sizeof key);
    add_number(&body, 3, true); /* with the key's hash, of 32 bytes, which makes the key ready */
    add_number(&body, 4, 32);
    ask("preparing a quote", INIT_QUOTE, &body);
    copy("preparing a quote", &body, 2, &target, sizeof target);

    status = report(id, &result, &target, &data, &report_of_ours);
    if (status != SGX_SUCCESS || result != 0) fail("the enclave's report", status);

    body.size = 0;
    add_bytes(&body, 1, key, sizeof key);
    ask("learning the quote's size", QUOTE_SIZE, &body);
    if (!find(&body, 2, &size, &bytes) || size > MOST / 2) fail("learning the quote's size", size);

    body.size = 0;
    add_bytes(&body, 1, &report_of_ours, sizeof report_of_ours);
    add_bytes(&body, 2, key, sizeof key);
    add_number(&body, 4, size);
    ask("quoting", GET_QUOTE, &body);
    if (!find(&body, 2, &size, &bytes)) fail("quoting", 3);
    print_base64(bytes, size);
    return 0;
}
