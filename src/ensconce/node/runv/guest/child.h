// SPDX-License-Identifier: Apache-2.0
// What a new process does in the guest between its birth and the container's own program.
#ifndef ENSCONCE_CHILD_H
#define ENSCONCE_CHILD_H

#include "plan.h"

#define SHARE "/share"

// Never return. `status` is a SOCK_SEQPACKET: the child says "" (with the terminal's descriptor
// where there is one) when all is ready, waits for a byte, and says why where anything fails.
_Noreturn void become(struct plan *plan, int status, const int streams[3]);

_Noreturn void give_up(int status, const char *what, const char *which);

// In root.c: make the container's root and move into it; return the controlling terminal's master.
void enter_root(struct plan *plan, int status);
void make_devices(const struct plan *plan, int status);
void seal_paths(const struct plan *plan, int status);
void make_mountpoint(const char *path, bool folder, int status);

// In copy.c: copy folders, files and links, with owners and modes, and close both descriptors.
bool copy_tree(int from, int to);

// In rights.c
void set_rights(const struct plan *plan, int status);
void set_filter(const struct plan *plan, int status);

#endif
