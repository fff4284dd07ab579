// SPDX-License-Identifier: Apache-2.0
// A container's root: its mounts, devices, and the paths that it must not see or write.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "child.h"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#define RECURSIVE 0x8000          // AT_RECURSIVE
#define FROM_EMPTY 4              // MOVE_MOUNT_F_EMPTY_PATH
#define SETTABLE (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_RELATIME | \
                  MS_STRICTATIME | MS_NODIRATIME)

// The bundle's sources were put into the shared folder by the host, under names without "..".
static void open_source(struct mount_plan *mount, int status) {
    char path[PATH_MAX];
    if (strstr(mount->source, "..") ||
        snprintf(path, sizeof path, SHARE "/%s", mount->source) >= (int)sizeof path)
        give_up(status, "a mount's source is no path", mount->source);
    unsigned flags = OPEN_TREE_CLONE | O_CLOEXEC | RECURSIVE;
    mount->tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, flags);
    if (mount->tree < 0)
        give_up(status, "can't open the source of the mount at", mount->destination);
}

void make_mountpoint(const char *path, bool folder, int status) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part)
        give_up(status, "a path is too long", path);
    struct stat found;
    if (!stat(path, &found))
        return;
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != 0)
            continue;
        memcpy(part, path, end);
        part[end] = 0;
        if (end == length && !folder) {
            int made = open(part, O_CREAT | O_CLOEXEC | O_WRONLY, 0644);
            if (made < 0)
                give_up(status, "can't make the mount point", path);
            close(made);
        } else if (mkdir(part, 0755) && errno != EEXIST) {
            give_up(status, "can't make the mount point", path);
        }
    }
}

static void mount_one(const struct mount_plan *entry, int status) {
    const char *to = entry->destination;
    unsigned long flags = (unsigned long)entry->flags;
    if (entry->tree >= 0) {
        struct stat found;
        if (fstat(entry->tree, &found))
            give_up(status, "can't look at the source of the mount at", to);
        make_mountpoint(to, S_ISDIR(found.st_mode), status);
        if (syscall(SYS_move_mount, entry->tree, "", AT_FDCWD, to, FROM_EMPTY))
            give_up(status, "can't mount", to);
        close(entry->tree);
        if (flags & SETTABLE &&
            mount("", to, NULL, MS_BIND | MS_REMOUNT | (flags & SETTABLE), NULL))
            give_up(status, "can't set the options of the mount at", to);
    } else if (flags & MS_BIND) {  // of a path within the container
        struct stat found;
        if (stat(entry->source, &found))
            give_up(status, "no source for the mount at", to);
        make_mountpoint(to, S_ISDIR(found.st_mode), status);
        if (mount(entry->source, to, NULL, flags & (MS_BIND | MS_REC), NULL) ||
            (flags & SETTABLE &&
             mount("", to, NULL, MS_BIND | MS_REMOUNT | (flags & SETTABLE), NULL)))
            give_up(status, "can't mount", to);
    } else {
        make_mountpoint(to, true, status);
        int below = entry->copied ? open(to, O_DIRECTORY | O_RDONLY | O_CLOEXEC) : -1;
        unsigned long first = flags & ~(unsigned long)(below < 0 ? MS_REC : MS_REC | MS_RDONLY);
        if (mount(entry->source, to, entry->type, first, entry->data))
            give_up(status, "can't mount", to);
        if (below >= 0) {
            int above = open(to, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
            if (above < 0 || !copy_tree(below, above))
                give_up(status, "can't copy into the new", to);
            if (first != (flags & ~(unsigned long)MS_REC) &&
                mount("", to, NULL, MS_BIND | MS_REMOUNT | (flags & SETTABLE), NULL))
                give_up(status, "can't set the options of the mount at", to);
        }
    }
    if (entry->propagation && mount("", to, NULL, entry->propagation, NULL))
        give_up(status, "can't set the propagation of", to);
}

void enter_root(struct plan *plan, int status) {
    char root[PATH_MAX];
    if (strstr(plan->root, "..") ||
        snprintf(root, sizeof root, SHARE "/%s", plan->root) >= (int)sizeof root)
        give_up(status, "the root is no path", plan->root);
    if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        give_up(status, "can't make the mounts private", "/");
    if (mount(root, root, NULL, MS_BIND | MS_REC, NULL))
        give_up(status, "can't mount the root", root);
    for (size_t each = 0; each < plan->mount_count; each++)
        if (plan->mounts[each].shared_folder)
            open_source(&plan->mounts[each], status);
    if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        give_up(status, "can't change the root", root);
    for (size_t each = 0; each < plan->mount_count; each++)
        mount_one(&plan->mounts[each], status);
}

static void make_link(const char *target, const char *path, int status) {
    if (symlink(target, path) && errno != EEXIST)
        give_up(status, "can't make the link", path);
}

void make_devices(const struct plan *plan, int status) {
    umask(0);
    for (size_t each = 0; each < plan->device_count; each++) {
        const struct device_plan *device = &plan->devices[each];
        char parent[PATH_MAX];
        snprintf(parent, sizeof parent, "%s", device->path);
        *strrchr(parent, '/') = 0;
        if (parent[0])
            make_mountpoint(parent, true, status);
        if (mknod(device->path, device->mode, makedev(device->major, device->minor))) {
            struct stat found;
            if (errno == EEXIST && !stat(device->path, &found) &&
                (found.st_mode & S_IFMT) == (device->mode & S_IFMT))
                continue;
            give_up(status, "can't make the device", device->path);
        }
        if (chown(device->path, device->uid, device->gid))
            give_up(status, "can't give the device to its owner", device->path);
    }
    if (!access("/dev", F_OK) && !access("/proc/self/fd", F_OK)) {
        make_link("/proc/self/fd", "/dev/fd", status);
        make_link("/proc/self/fd/0", "/dev/stdin", status);
        make_link("/proc/self/fd/1", "/dev/stdout", status);
        make_link("/proc/self/fd/2", "/dev/stderr", status);
        if (!access("/dev/pts/ptmx", F_OK))
            make_link("pts/ptmx", "/dev/ptmx", status);
    }
    umask(022);
}

static void hide(const char *path, int status) {
    struct stat found;
    if (stat(path, &found)) {
        if (errno == ENOENT || errno == ENOTDIR)
            return;
        give_up(status, "can't look at the path to be hidden", path);
    }
    int failed = S_ISDIR(found.st_mode)
                     ? mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
                     : mount("/dev/null", path, NULL, MS_BIND, NULL);
    if (failed)
        give_up(status, "can't hide", path);
}

void seal_paths(const struct plan *plan, int status) {
    for (size_t each = 0; each < plan->readonly_count; each++) {
        const char *path = plan->readonly[each];
        if (access(path, F_OK))
            continue;
        unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
        if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) ||
            mount("", path, NULL, flags, NULL))
            give_up(status, "can't make read-only", path);
    }
    for (size_t each = 0; each < plan->masked_count; each++)
        hide(plan->masked[each], status);
    if (plan->root_readonly && mount("", "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL))
        give_up(status, "can't make read-only", "/");
    if (plan->propagation && mount("", "/", NULL, (unsigned long)plan->propagation, NULL))
        give_up(status, "can't set the propagation of", "/");
}
