"""Takes from a process every system call but those that computing needs. Standard library only, see child.py.

A seccomp filter (Linux 3.5, its answer to a denied call EPERM) with a list of what is allowed: reading and writing what
is open already, memory that cannot be executed, waiting, the clock, random numbers, exit. Everything else is refused by
the kernel, whatever the code does to the interpreter: files, sockets, processes, threads, signals, tracing, namespaces,
io_uring, new limits. A filter cannot be taken off again. Neither root nor a namespace is needed.

Memory is bounded by RLIMIT_AS. Numbers of calls differ between machines, so only the two that are listed are supported.
"""

import ctypes
import os
import platform
import resource
import socket
import struct
from collections.abc import Mapping

# The calls by name, and their numbers in Linux's tables of x86-64 and of arm64.
_X86_64: Mapping[str, int] = {
    "read": 0,
    "write": 1,
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "sched_yield": 24,
    "mremap": 25,
    "madvise": 28,
    "nanosleep": 35,
    "exit": 60,
    "gettimeofday": 96,
    "sigaltstack": 131,
    "futex": 202,
    "restart_syscall": 219,
    "clock_gettime": 228,
    "clock_getres": 229,
    "clock_nanosleep": 230,
    "exit_group": 231,
    "getrandom": 318,
}
_ARM64: Mapping[str, int] = {
    "read": 63,
    "write": 64,
    "exit": 93,
    "exit_group": 94,
    "futex": 98,
    "nanosleep": 101,
    "clock_gettime": 113,
    "clock_getres": 114,
    "clock_nanosleep": 115,
    "sched_yield": 124,
    "restart_syscall": 128,
    "sigaltstack": 132,
    "rt_sigaction": 134,
    "rt_sigprocmask": 135,
    "rt_sigreturn": 139,
    "gettimeofday": 169,
    "brk": 214,
    "munmap": 215,
    "mremap": 216,
    "mmap": 222,
    "mprotect": 226,
    "madvise": 233,
    "getrandom": 278,
}
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _ARM64)}

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 22, 4, 38
_SECCOMP_MODE_FILTER = 2
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050000 | 1, 0x7FFF0000  # 1 is EPERM
_LOAD, _EQUALS, _AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data, little endian
_X32 = 0x40000000
_PROT_EXEC = 4
_SIGKILL = 9
_CPU_SECONDS = 3600


class NoSandbox(Exception):
    """The kernel or machine cannot give what is promised."""


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when `parent` ends."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(more_bytes: int) -> None:
    """From now on at most that much more address space; no core files, no growing files, no more open ones."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, used + more_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def lock_down() -> None:
    """Installs the filter and looks whether it holds. Raises NoSandbox."""
    instructions = b"".join(_program())
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Filter(len(instructions) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_DUMPABLE, 0, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))
    _prove()


def _program() -> list[bytes]:
    machine = platform.machine()
    if machine not in _MACHINES or platform.system() != "Linux" or struct.calcsize("P") != 8:
        raise NoSandbox(f"no list of system calls for {platform.system()} on {machine}")
    architecture, calls = _MACHINES[machine]
    program = [
        _do(_LOAD, _MACHINE),
        _do(_EQUALS, architecture, 1, 0),
        _do(_RETURN, _KILL),
        _do(_LOAD, _NUMBER),
        _do(_AT_LEAST, _X32, 0, 1),
        _do(_RETURN, _KILL),
    ]
    for name, number in calls.items():
        if name in ("mmap", "mprotect"):  # only memory that is not executed
            program += [
                _do(_EQUALS, number, 0, 4),
                _do(_LOAD, _THIRD_ARGUMENT),
                _do(_HAS, _PROT_EXEC, 0, 1),
                _do(_RETURN, _REFUSE),
                _do(_RETURN, _ALLOW),
            ]
        else:
            program += [_do(_EQUALS, number, 0, 1), _do(_RETURN, _ALLOW)]
    return [*program, _do(_RETURN, _REFUSE)]


def _do(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _prctl(option: int, value: int, pointer: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
    if call(option, value, pointer, 0, 0) != 0:
        raise NoSandbox(f"prctl {option} failed: {os.strerror(ctypes.get_errno())}")


def _prove() -> None:
    attempts = {
        "a file was opened": lambda: os.open("/", os.O_RDONLY),
        "a socket was opened": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "a process was started": os.fork,
        "a signal was sent": lambda: os.kill(os.getppid(), 0),
        "a pipe was opened": os.pipe,
    }
    for what, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            continue
        except OSError as error:
            raise NoSandbox(f"the filter answers otherwise than it should: {error}") from error
        raise NoSandbox(f"the filter does not hold: {what}")
