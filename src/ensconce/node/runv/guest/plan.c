// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "plan.h"

#include <string.h>
#include <sys/stat.h>

#define NEXT(list, count, most) \
    ((count) < (most) ? &(list)[(count)++] : (*bad = true, &(list)[0]))

static void read_mount(struct plan *plan, struct cursor *cursor, bool *bad) {
    struct mount_plan *mount = NEXT(plan->mounts, plan->mount_count, MOST_MOUNTS);
    mount->flags = take64(cursor);
    mount->propagation = take32(cursor);
    uint32_t how = take32(cursor);
    mount->shared_folder = how & 1;
    mount->copied = how & 2;
    mount->type = take_text(cursor);
    mount->source = take_text(cursor);
    mount->destination = take_text(cursor);
    mount->data = take_text(cursor);
    mount->tree = -1;
    if (mount->destination[0] != '/')
        *bad = true;
}

static void read_device(struct plan *plan, struct cursor *cursor, bool *bad) {
    struct device_plan *device = NEXT(plan->devices, plan->device_count, MOST_DEVICES);
    uint32_t mode = take32(cursor);
    uint32_t type = mode & S_IFMT;
    if (type != S_IFCHR && type != S_IFBLK && type != S_IFIFO)
        *bad = true;
    device->mode = (mode_t)mode;
    device->major = take32(cursor);
    device->minor = take32(cursor);
    device->uid = take32(cursor);
    device->gid = take32(cursor);
    device->path = take_text(cursor);
    if (device->path[0] != '/')
        *bad = true;
}

static void read_pair(struct pair *pair, struct cursor *cursor, bool *bad) {
    pair->name = take_text(cursor);
    pair->value = take_text(cursor);
    if (pair->name[0] == '/' || strstr(pair->name, ".."))
        *bad = true;
}

static void read_word(struct plan *plan, const struct record *record, bool *bad) {
    char *word = (char *)(uintptr_t)record_text(record, bad);
    if (record->tag == TAG_ARGUMENT)
        *NEXT(plan->arguments, plan->argument_count, MOST_WORDS) = word;
    else
        *NEXT(plan->environment, plan->environment_count, MOST_WORDS) = word;
}

static bool read_container(struct plan *plan, const struct record *record, bool *bad) {
    struct cursor cursor = {record->bytes, record->size, false};
    switch (record->tag) {
    case TAG_CONTAINER: plan->container = take_text(&cursor); break;
    case TAG_JOIN: plan->join = true; break;
    case TAG_ROOT: plan->root = take_text(&cursor); break;
    case TAG_ROOT_READONLY: plan->root_readonly = true; break;
    case TAG_HOSTNAME: plan->hostname = take_text(&cursor); break;
    case TAG_DOMAINNAME: plan->domainname = take_text(&cursor); break;
    case TAG_MOUNT: read_mount(plan, &cursor, bad); break;
    case TAG_MASKED: *NEXT(plan->masked, plan->masked_count, MOST_PATHS) = take_text(&cursor); break;
    case TAG_READONLY:
        *NEXT(plan->readonly, plan->readonly_count, MOST_PATHS) = take_text(&cursor);
        break;
    case TAG_DEVICE: read_device(plan, &cursor, bad); break;
    case TAG_SYSCTL:
        read_pair(NEXT(plan->sysctls, plan->sysctl_count, MOST_PATHS), &cursor, bad);
        break;
    case TAG_LIMIT:
        read_pair(NEXT(plan->limits, plan->limit_count, MOST_PATHS), &cursor, bad);
        break;
    case TAG_NAMESPACES: plan->namespaces = take64(&cursor); break;
    case TAG_PROPAGATION: plan->propagation = take64(&cursor); break;
    case TAG_SHARED:
        plan->shared = take32(&cursor);
        plan->pod = take_text(&cursor);
        break;
    default: return false;
    }
    if (cursor.bad || cursor.left)
        *bad = true;
    return true;
}

static void read_filter(struct plan *plan, struct cursor *cursor, bool *bad) {
    plan->filter_flags = take32(cursor);
    plan->filter = cursor->at;
    plan->filter_size = (uint32_t)cursor->left;
    if (cursor->left > MOST_FILTER || cursor->left % 8 || !cursor->left)
        *bad = true;
    cursor->left = 0;
}

static void read_rlimit(struct plan *plan, struct cursor *cursor, bool *bad) {
    struct rlimit_plan *rlimit = NEXT(plan->rlimits, plan->rlimit_count, MOST_RLIMITS);
    rlimit->resource = take32(cursor);
    rlimit->soft = take64(cursor);
    rlimit->hard = take64(cursor);
}

static bool read_process(struct plan *plan, const struct record *record, bool *bad) {
    struct cursor cursor = {record->bytes, record->size, false};
    switch (record->tag) {
    case TAG_ARGUMENT:
    case TAG_ENVIRONMENT: read_word(plan, record, bad); return true;
    case TAG_FOLDER: plan->folder = take_text(&cursor); break;
    case TAG_USER:
        plan->uid = take32(&cursor);
        plan->gid = take32(&cursor);
        break;
    case TAG_GROUP: *NEXT(plan->groups, plan->group_count, MOST_GROUPS) = take32(&cursor); break;
    case TAG_UMASK:
        plan->has_umask = true;
        plan->umask = take32(&cursor);
        break;
    case TAG_RLIMIT: read_rlimit(plan, &cursor, bad); break;
    case TAG_CAPABILITIES:
        plan->has_capabilities = true;
        for (int each = 0; each < 5; each++)
            plan->capabilities[each] = take64(&cursor);
        break;
    case TAG_NO_NEW_PRIVILEGES: plan->no_new_privileges = true; break;
    case TAG_TERMINAL:
        plan->terminal = true;
        plan->rows = take32(&cursor);
        plan->columns = take32(&cursor);
        break;
    case TAG_FILTER: read_filter(plan, &cursor, bad); break;
    case TAG_OOM_SCORE:
        plan->has_oom_score = true;
        plan->oom_score = (int)take32(&cursor);
        break;
    default: return false;
    }
    if (cursor.bad || cursor.left)
        *bad = true;
    return true;
}

static bool is_name(const char *name) {
    size_t length = name ? strlen(name) : 0;
    return length > 0 && length <= MOST_NAME && !strchr(name, '/') && name[0] != '.';
}

const char *read_plan(struct plan *plan, const uint8_t *payload, size_t size) {
    memset(plan, 0, sizeof *plan);
    struct cursor cursor = {payload, size, false};
    struct record record;
    bool bad = false;
    while (next_record(&cursor, &record)) {
        if (!read_container(plan, &record, &bad) && !read_process(plan, &record, &bad))
            return "the process has a record that this agent does not know";
        if (bad)
            return "the process has a malformed record";
    }
    if (cursor.bad)
        return "the process's records end too early";
    if (!is_name(plan->container))
        return "the process names no container";
    if (!plan->argument_count || !plan->folder || plan->folder[0] != '/')
        return "the process needs arguments and an absolute folder";
    if (!plan->join && !plan->root)
        return "the container has no root";
    return NULL;
}
