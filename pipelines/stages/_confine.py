"""What a process gives up before it reads foreign bytes: memory, network, programs, other processes."""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipelines.stages import _landlock

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38  # linux/prctl.h
CLONE_THREAD, CLONE_NEWUSER, CLONE_NEWNET = 0x0001_0000, 0x1000_0000, 0x4000_0000  # linux/sched.h
CAPABILITY_VERSION_3 = 0x20080522
KEPT_CAPABILITIES = 1 << 1 | 1 << 2  # DAC_OVERRIDE, DAC_READ_SEARCH: root still reads what root may read
MAX_FILE_BYTES, MAX_FILES = 2**31, 256

# The number of each call on x86-64 and on arm64, -1 where there is none: linux/asm/unistd.h.
DENIED = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "execve": (59, 221), "execveat": (322, 281),
    "fork": (57, -1), "vfork": (58, -1), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setsid": (112, 157),
}  # fmt: skip
CLONE, CLONE3, KILL, TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, linux/audit.h
EPERM, ENOSYS = 1, 38


def confine(memory_bytes: int, *, read: Iterable[str], write: Iterable[str]) -> list[str]:
    """Give up what can be given up, for good; call it before any thread starts.

    `read` and `write`: the only files and folders that may still be opened. Returns in words what this
    machine did not let us give up; [] when all is well.
    """
    _limit(memory_bytes)
    if not sys.platform.startswith("linux"):
        return [f"{sys.platform} has no namespaces and no call filter: network and processes stay open"]
    missing = []
    own_network = _leave_network()
    Path("/proc/self/oom_score_adj").write_text("1000")  # a full machine loses this process, not the worker
    _drop_capabilities()
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    try:
        _landlock.restrict(read, write)
    except OSError as e:
        missing.append(f"no Landlock in this kernel, so it may read what the worker may read: {e}")
    try:
        _filter_calls()
    except OSError as e:
        missing.append(f"no call filter, so it may start processes: {e}")
        if not own_network:
            missing.append("no network namespace either, so it may reach the network")
    return missing


def die_with(parent: int) -> None:
    """Be killed when the thread that started us ends, whatever we are busy with."""
    if sys.platform.startswith("linux"):
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before we asked
            os._exit(1)


def _limit(memory_bytes: int) -> None:
    """Data is memory that was asked for; the address space also counts libraries and mapped files."""
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_DATA, memory_bytes),
    ):
        hard = resource.getrlimit(what)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, limit))


def address_space_bytes() -> int:
    """What is taken now: data, libraries, mapped files; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def data_bytes() -> int:
    """What RLIMIT_DATA counts, now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def few_files_left() -> bool:
    """Whether half of those that may be open at a time are; by the lowest number that is free."""
    try:
        free = os.dup(0)
    except OSError:
        return True
    os.close(free)
    return free > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def limit_address_space(num_bytes: int) -> None:
    """Cap the address space; may be called again with another cap."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int, pointer: object = 0) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _leave_network() -> bool:
    """Move into an empty network; an ordinary user needs a user namespace for that."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWNET if uid == 0 else CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    if uid != 0:
        with suppress(OSError):  # Ubuntu's AppArmor lets us leave, but name nobody there: we stay nameless
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _drop_capabilities() -> None:
    """Less than the worker has: the kernel then keeps the worker's memory and environment from us."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low 32, then the high
    if _libc().capget(header, held) == 0:
        kept = [word & KEPT_CAPABILITIES for word in held[:3]]
        _libc().capset(header, (ctypes.c_uint32 * 6)(*kept, 0, 0, 0))


def _filter_calls() -> None:
    """Have the kernel refuse, with EPERM, calls that no decoder needs. Threads may still be started."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"the calls of {machine} are not known here")
    program = _program(*ARCHITECTURES[machine], os.getpid())
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    _prctl(PR_SET_SECCOMP, 2, ctypes.byref(Program(len(program) // 8, ctypes.addressof(code))))


def _program(column: int, architecture: int, pid: int) -> bytes:
    """Classic BPF over struct seccomp_data {nr, arch, instruction pointer, args}: linux/seccomp.h."""
    load, equal, any_bit, at_least, result = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, refuse, absent = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000 | ENOSYS

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    steps = [
        step(load, 4), step(equal, architecture, 1, 0), step(result, refuse),
        step(load, 0), step(at_least, 0x40000000, 0, 1), step(result, refuse),  # the x32 calls
        step(equal, CLONE3[column], 0, 1), step(result, absent),  # its flags lie in memory; libc takes clone
        step(equal, CLONE[column], 0, 3),
        step(load, 16), step(any_bit, CLONE_THREAD, 1, 0), step(result, refuse), step(load, 0),
    ]  # fmt: skip
    for call in (KILL, TGKILL):  # itself only
        steps += [
            step(equal, call[column], 0, 3),
            step(load, 16), step(equal, pid, 1, 0), step(result, refuse), step(load, 0),
        ]  # fmt: skip
    for numbers in DENIED.values():
        if numbers[column] >= 0:
            steps += [step(equal, numbers[column], 0, 1), step(result, refuse)]
    return b"".join([*steps, step(result, allow)])
