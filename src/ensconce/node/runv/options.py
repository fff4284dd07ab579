# SPDX-License-Identifier: Apache-2.0
"""The words of config.json and the numbers that Linux has for them."""

__all__ = [
    "CAPABILITIES",
    "MOUNT_CLEARED",
    "MOUNT_FLAGS",
    "NAMESPACES",
    "PROPAGATION",
    "RLIMITS",
    "UNLIMITED",
]

_REC = 0x4000
UNLIMITED = (1 << 64) - 1

MOUNT_FLAGS = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "sync": 0x10, "dirsync": 0x80,
    "mand": 0x40, "noatime": 0x400, "nodiratime": 0x800, "bind": 0x1000, "rbind": 0x1000 | _REC,
    "relatime": 0x200000, "iversion": 0x800000, "strictatime": 0x1000000, "silent": 0x8000,
    "remount": 0x20, "nosymfollow": 0x100,
}  # fmt: skip
MOUNT_CLEARED = {
    "rw": 0x1, "suid": 0x2, "dev": 0x4, "exec": 0x8, "async": 0x10, "nomand": 0x40, "atime": 0x400,
    "diratime": 0x800, "norelatime": 0x200000, "noiversion": 0x800000, "nostrictatime": 0x1000000,
    "loud": 0x8000, "symfollow": 0x100, "defaults": 0,
}  # fmt: skip
_SINGLE = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20, "unbindable": 1 << 17}
PROPAGATION = {**_SINGLE, **{f"r{word}": flag | _REC for word, flag in _SINGLE.items()}}

NAMESPACES = {
    "mount": 0x20000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "pid": 0x20000000,
}  # fmt: skip

_CAPABILITY_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES = {f"CAP_{name}": place for place, name in enumerate(_CAPABILITY_NAMES.split())}

_RLIMIT_NAMES = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO "
    "RTTIME"
)
RLIMITS = {f"RLIMIT_{name}": place for place, name in enumerate(_RLIMIT_NAMES.split())}
