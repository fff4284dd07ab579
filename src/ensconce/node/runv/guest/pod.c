// SPDX-License-Identifier: Apache-2.0
// What makes the guest this pod's: its network, clock, randomness and shared folder.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"

static char wrong[256];

// The host wrote the request; the kernel is the one that reads it.
static const char *ask_kernel(const struct record *record) {
    uint8_t answer[1024];
    struct nlmsgerr error;
    int socket_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    ssize_t got = -1;
    if (socket_ >= 0 && send(socket_, record->bytes, record->size, 0) == (ssize_t)record->size)
        got = recv(socket_, answer, sizeof answer, 0);
    if (socket_ >= 0)
        close(socket_);
    if (got < (ssize_t)(NLMSG_HDRLEN + sizeof error))
        return "the guest can't set up its network";
    memcpy(&error, answer + NLMSG_HDRLEN, sizeof error);
    if (!error.error || error.error == -EEXIST)
        return NULL;
    snprintf(wrong, sizeof wrong, "the guest can't set up its network: %s",
             strerror(-error.error));
    return wrong;
}

static const char *set_clock(struct cursor *cursor) {
    struct timespec now = {(time_t)take64(cursor), 0};
    now.tv_nsec = (long)take32(cursor);
    return cursor->bad || clock_settime(CLOCK_REALTIME, &now) ? "the guest can't set its clock"
                                                              : NULL;
}

static const char *add_entropy(const struct record *record) {
    union {
        struct rand_pool_info info;
        uint8_t bytes[sizeof(struct rand_pool_info) + 256];
    } pool;
    if (record->size > 256)
        return "the host sent too much entropy";
    pool.info.entropy_count = (int)record->size * 8;
    pool.info.buf_size = (int)record->size;
    memcpy(pool.bytes + sizeof pool.info, record->bytes, record->size);
    int device = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    bool failed = device < 0 || ioctl(device, RNDADDENTROPY, &pool) || ioctl(device, RNDRESEEDCRNG);
    if (device >= 0)
        close(device);
    return failed ? "the guest can't take the host's entropy" : NULL;
}

static const char *mount_share(struct cursor *cursor) {
    const char *type = take_text(cursor), *source = take_text(cursor);
    const char *options = take_text(cursor);
    if (cursor->bad || mount(source, SHARE, type, MS_NOATIME, options)) {
        snprintf(wrong, sizeof wrong, "the guest can't mount what the host shares: %s",
                 strerror(errno));
        return wrong;
    }
    return NULL;
}

const char *set_up_pod(const uint8_t *payload, size_t size) {
    struct cursor records = {payload, size, false};
    struct record record;
    const char *failed = NULL;
    while (!failed && next_record(&records, &record)) {
        struct cursor cursor = {record.bytes, record.size, false};
        switch (record.tag) {
        case TAG_NETLINK: failed = ask_kernel(&record); break;
        case TAG_CLOCK: failed = set_clock(&cursor); break;
        case TAG_ENTROPY: failed = add_entropy(&record); break;
        case TAG_SHARE: failed = mount_share(&cursor); break;
        default: failed = "the pod has a record that this agent does not know";
        }
    }
    return records.bad ? "the pod's records end too early" : failed;
}
