// SPDX-License-Identifier: Apache-2.0
// What the guest does once: a root that containers can leave, file systems, modules, the channel.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"

static _Noreturn void die(const char *what) {
    fprintf(stderr, "ensconce agent: %s: %s\n", what, strerror(errno));
    reboot(RB_POWER_OFF);
    _exit(1);
}

_Noreturn void power_off(void) {
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void load_modules(void) {
    struct dirent **names;
    int count = scandir("/modules", &names, NULL, alphasort);
    for (int each = 0; each < count; each++) {
        char path[300];
        snprintf(path, sizeof path, "/modules/%s", names[each]->d_name);
        int file = names[each]->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0 && syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
            die(path);
        if (file >= 0) {
            close(file);
            unlink(path);
        }
    }
}

static void mount_at(const char *type, const char *path, unsigned long flags, const char *data) {
    mkdir(path, 0755);
    if (mount(type, path, type, flags, data))
        die(path);
}

static void write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)!write(file, text, strlen(text));  // a controller that the kernel lacks
        close(file);
    }
}

void boot(void) {
    // The first root can't be pivoted away from; a file system over it can.
    mkdir("/root", 0755);
    if (mount("root", "/root", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m"))
        die("root");
    load_modules();
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        die("new root");
    const unsigned long closed = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    mount_at("proc", "/proc", closed, NULL);
    mount_at("sysfs", "/sys", closed, NULL);
    mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=755");
    mount_at("cgroup2", "/sys/fs/cgroup", closed, NULL);
    mkdir(SHARE, 0755);
    static const char *const controllers[] = {"+memory", "+pids", "+cpu", "+cpuset", "+io"};
    for (size_t each = 0; each < sizeof controllers / sizeof *controllers; each++)
        write_file("/sys/fs/cgroup/cgroup.subtree_control", controllers[each]);
}

// Ports are named by what they are for; their devices' names vary, and come a little later.
static bool port_path(char *path, size_t room) {
    DIR *ports = opendir("/sys/class/virtio-ports");
    if (!ports)
        return false;
    bool found = false;
    for (struct dirent *port; !found && (port = readdir(ports));) {
        char name_path[300], name[32] = "";
        snprintf(name_path, sizeof name_path, "/sys/class/virtio-ports/%s/name", port->d_name);
        int file = open(name_path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        (void)!read(file, name, sizeof name - 1);
        close(file);
        struct stat device;
        snprintf(path, room, "/dev/%s", port->d_name);
        found = !strcmp(name, "ensconce\n") && !stat(path, &device) && S_ISCHR(device.st_mode);
    }
    closedir(ports);
    return found;
}

int find_channel(void) {
    char path[300];
    for (int turn = 0; turn < 5000; turn++) {
        if (port_path(path, sizeof path)) {
            int port = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
            if (port >= 0)
                return port;
        }
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    die("no channel to the host");
}
