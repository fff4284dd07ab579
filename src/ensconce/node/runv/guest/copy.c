// SPDX-License-Identifier: Apache-2.0
// The copy of an image's folder into a tmpfs that is mounted over it (tmpcopyup). The image may be
// hostile: no link is followed, and the depth is bounded, as each level takes descriptors.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"

enum { DEEPEST = 64, AT_ONCE = 1 << 20 };

static bool copy_folder(int from, int to, int depth);

static bool copy_file(int from, int to) {
    ssize_t done;
    while ((done = sendfile(to, from, NULL, AT_ONCE)) > 0)
        ;
    close(from);
    return !close(to) && !done;
}

static bool copy_link(int from, int to, const char *name) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(from, name, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = 0;
    return !symlinkat(target, to, name);
}

static bool copy_entry(int from, int to, const char *name, int depth) {
    struct stat found;
    if (fstatat(from, name, &found, AT_SYMLINK_NOFOLLOW))
        return false;
    bool folder = S_ISDIR(found.st_mode), link = S_ISLNK(found.st_mode);
    if (link) {
        if (!copy_link(from, to, name))
            return false;
    } else if (folder || S_ISREG(found.st_mode)) {
        if (folder && mkdirat(to, name, 0700))
            return false;
        int kind = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (folder ? O_DIRECTORY : 0);
        int source = openat(from, name, O_RDONLY | kind);
        int copy = openat(to, name, folder ? O_RDONLY | kind : O_WRONLY | O_CREAT | kind, 0600);
        if (source < 0 || copy < 0)
            return false;
        if (!(folder ? copy_folder(source, copy, depth + 1) : copy_file(source, copy)))
            return false;
    } else if (mknodat(to, name, found.st_mode, found.st_rdev)) {
        return false;
    }
    // the owner first: a change of it clears the bits by which a program takes its owner's rights
    return !fchownat(to, name, found.st_uid, found.st_gid, AT_SYMLINK_NOFOLLOW) &&
           (link || !fchmodat(to, name, found.st_mode & 07777, 0));
}

static bool copy_folder(int from, int to, int depth) {
    DIR *folder = depth < DEEPEST ? fdopendir(from) : NULL;
    bool good = folder != NULL;
    errno = good ? 0 : ELOOP;
    for (struct dirent *entry; good && (errno = 0, entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            good = copy_entry(from, to, entry->d_name, depth);
    good = good && !errno;
    int why = errno;
    if (folder)
        closedir(folder);
    close(to);
    errno = why;
    return good;
}

bool copy_tree(int from, int to) {
    struct stat found;
    return !fstat(from, &found) && !fchown(to, found.st_uid, found.st_gid) &&
           !fchmod(to, found.st_mode & 07777) && copy_folder(from, to, 0);
}
