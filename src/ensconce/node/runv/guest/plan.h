// SPDX-License-Identifier: Apache-2.0
// What a RUN frame says: one process, and for the first of a container also its root and mounts.
#ifndef ENSCONCE_PLAN_H
#define ENSCONCE_PLAN_H

#include <sys/types.h>

#include "wire.h"

enum {
    MOST_MOUNTS = 512,
    MOST_WORDS = 8192,
    MOST_PATHS = 512,
    MOST_GROUPS = 1024,
    MOST_RLIMITS = 16,
    MOST_DEVICES = 512,
    MOST_FILTER = 4096 * 8,  // BPF_MAXINSNS instructions
    MOST_NAME = 128,
};

enum tag {
    TAG_CONTAINER = 1,
    TAG_JOIN,
    TAG_ROOT,
    TAG_ROOT_READONLY,
    TAG_HOSTNAME,
    TAG_DOMAINNAME,
    TAG_MOUNT,
    TAG_MASKED,
    TAG_READONLY,
    TAG_DEVICE,
    TAG_SYSCTL,
    TAG_LIMIT,
    TAG_NAMESPACES,
    TAG_PROPAGATION,
    TAG_SHARED,
    TAG_ARGUMENT = 32,
    TAG_ENVIRONMENT,
    TAG_FOLDER,
    TAG_USER,
    TAG_GROUP,
    TAG_UMASK,
    TAG_RLIMIT,
    TAG_CAPABILITIES,
    TAG_NO_NEW_PRIVILEGES,
    TAG_TERMINAL,
    TAG_FILTER,
    TAG_OOM_SCORE,
    // in a POD frame
    TAG_NETLINK = 64,
    TAG_CLOCK,
    TAG_ENTROPY,
    TAG_SHARE,
};

struct mount_plan {
    const char *type, *source, *destination, *data;
    uint64_t flags;
    uint32_t propagation;
    bool shared_folder;  // the source is in what the host shares
    bool copied;         // what the image has there is copied into the new tmpfs
    int tree;            // its descriptor once it is opened
};

struct device_plan {
    const char *path;
    mode_t mode;
    uint32_t major, minor, uid, gid;
};

struct pair {
    const char *name, *value;
};

struct rlimit_plan {
    uint32_t resource;
    uint64_t soft, hard;
};

struct plan {
    const char *container, *root, *hostname, *domainname, *folder;
    bool join, root_readonly, no_new_privileges, terminal, has_capabilities, has_umask;
    bool has_oom_score;
    uint64_t namespaces;  // CLONE_NEW…
    uint32_t shared;      // CLONE_NEW…, of the first process of the container `pod`
    const char *pod;
    uint64_t propagation;
    struct mount_plan mounts[MOST_MOUNTS];
    const char *masked[MOST_PATHS], *readonly[MOST_PATHS];
    struct device_plan devices[MOST_DEVICES];
    struct pair sysctls[MOST_PATHS], limits[MOST_PATHS];
    char *arguments[MOST_WORDS + 1], *environment[MOST_WORDS + 2];
    gid_t groups[MOST_GROUPS];
    struct rlimit_plan rlimits[MOST_RLIMITS];
    size_t mount_count, masked_count, readonly_count, device_count, sysctl_count, limit_count;
    size_t argument_count, environment_count, group_count, rlimit_count;
    uid_t uid;
    gid_t gid;
    uint32_t umask, rows, columns;
    uint64_t capabilities[5];  // bounding, effective, inheritable, permitted, ambient
    const uint8_t *filter;
    uint32_t filter_size, filter_flags;
    int oom_score;
};

// Fill the plan from a frame's payload, into which it then points; return NULL, or what is wrong.
const char *read_plan(struct plan *plan, const uint8_t *payload, size_t size);

#endif
