"""Attempts to escape from the sandbox, or to do harm from within it: the code that runs inside, and what stops it.

The code of an attempt runs inside the sandbox with these names: `VICTIM`, a file that may not be read; `READABLE`, a file that
may be read; `HOME`, the writable folder; `PARENT` and `PROCESS`, ids of processes outside; `UNIX`, `ABSTRACT`, `TCP`, `UDP`,
addresses of listeners outside; `NAME`, the attempt's name; `call`, which makes a system call by its name or number; `buffer`,
some memory.
"""

from __future__ import annotations

from typing import NamedTuple

LANDLOCK = "Landlock"
FILTER = "seccomp filter"
PRETENDED = "seccomp filter, which reports success"
KERNEL = "no capability"


class Attempt(NamedTuple):
    """`outcomes` are the error names that are expected; `done` stands for no error."""

    name: str
    code: str
    stopped_by: str
    outcomes: tuple[str, ...]


def landlock(name: str, code: str) -> Attempt:
    return Attempt(name, code, LANDLOCK, ("EACCES",))


def moved(name: str, code: str) -> Attempt:
    """An attempt that would link or move a file from one part of the tree to another."""
    return Attempt(name, code, LANDLOCK, ("EACCES", "EXDEV"))


def filtered(name: str, code: str) -> Attempt:
    return Attempt(name, code, FILTER, ("EPERM",))


def pretended(name: str, code: str) -> Attempt:
    return Attempt(name, code, PRETENDED, ("done",))


ATTEMPTS = (
    # Files
    landlock("write a file", "open(VICTIM, 'a').write(NAME)"),
    landlock("read a file", "open(VICTIM).read()"),
    landlock("write a file that may be read", "open(READABLE, 'a').write(NAME)"),
    landlock("truncate a file by its path", "os.truncate(READABLE, 0)"),
    landlock("truncate a file by opening it for reading", "os.open(READABLE, os.O_RDONLY | os.O_TRUNC)"),
    landlock("remove a file", "os.unlink(READABLE)"),
    landlock("make a file", "open(READABLE + '.new', 'w')"),
    landlock("make a folder", "os.mkdir(READABLE + '.d')"),
    landlock("make a symbolic link", "os.symlink('/etc', READABLE + '.link')"),
    landlock("make a file without a name", "os.open(os.path.dirname(READABLE), os.O_TMPFILE | os.O_RDWR)"),
    moved("move a file away", "os.rename(READABLE, HOME + '/moved')"),
    moved("replace a file by its own file", "open(HOME + '/mine', 'w'); os.replace(HOME + '/mine', READABLE)"),
    moved("exchange two files", "open(HOME + '/other', 'w'); call('renameat2', -100, HOME + '/other', -100, READABLE, 2)"),
    Attempt("hard-link a file into the folder", "os.link(READABLE, HOME + '/hard')", LANDLOCK, ("EACCES", "EXDEV", "EPERM")),
    moved("hard-link its own file to the outside", "open(HOME + '/own', 'w'); os.link(HOME + '/own', READABLE + '.hard')"),
    landlock("write through a symbolic link", "os.symlink(VICTIM, HOME + '/soft'); open(HOME + '/soft', 'w')"),
    landlock("write through a linked folder", "os.symlink(os.path.dirname(VICTIM), HOME + '/way'); open(HOME + '/way/x', 'w')"),
    landlock("write through /proc/self/root", "open('/proc/self/root' + VICTIM, 'w')"),
    landlock("write through ..", "open(HOME + '/../' * 40 + VICTIM, 'w')"),
    landlock("write into its own code", "open(ROOT + '/bunriwiki/artifacts/programs.py', 'a')"),
    landlock("write a module next to its own code", "open(ROOT + '/sitecustomize.py', 'w')"),
    landlock("write bytecode", "open(ROOT + '/bunriwiki/sandbox/x.pyc', 'w')"),
    landlock("write a .pth into the environment", "open(SITE + '/evil.pth', 'w')"),
    landlock("read the passwords", "open('/etc/shadow').read()"),
    landlock("write to /tmp", "open('/tmp/bunriwiki-escaped', 'w')"),
    landlock("write to shared memory", "open('/dev/shm/bunriwiki-escaped', 'w')"),
    landlock("open a terminal", "open('/dev/tty')"),
    landlock("make a terminal", "open('/dev/ptmx', 'r+b', 0)"),
    pretended("change a mode", "os.chmod(READABLE, 0o777)"),
    pretended("change a mode by a descriptor", "os.fchmod(os.open(READABLE, os.O_RDONLY), 0o777)"),
    pretended("change a mode without following links", "call('fchmodat2', -100, READABLE, 0o777, 0x100)"),
    pretended("change an owner", "os.chown(READABLE, 12345, 12345)"),
    pretended("change an owner by a descriptor", "os.fchown(os.open(READABLE, os.O_RDONLY), 12345, 12345)"),
    pretended("change a time", "os.utime(READABLE, (0, 0))"),
    pretended("change the mode of what may not be read", "os.chmod(VICTIM, 0o777)"),
    Attempt("set an attribute", "os.setxattr(READABLE, 'user.x', b'1')", FILTER, ("ENOTSUP",)),
    Attempt("remove an attribute", "os.removexattr(READABLE, 'user.canary')", FILTER, ("ENOTSUP",)),
    filtered("set a flag of a file", "fcntl.ioctl(os.open(READABLE, os.O_RDONLY), 0x40086602, struct.pack('l', 0x40))"),
    filtered("make a file immutable by fs-verity", "fcntl.ioctl(os.open(READABLE, os.O_RDONLY), 0x40806685, bytes(128))"),
    filtered("take a lease", "fcntl.fcntl(os.open(READABLE, os.O_RDONLY), 1024, fcntl.F_RDLCK)"),
    filtered("open a file by its handle", "call('open_by_handle_at', -100, struct.pack('Ii', 8, 1) + bytes(8), os.O_RDONLY)"),
    filtered("get the handle of a file", "call('name_to_handle_at', -100, READABLE, buffer, buffer, 0)"),
    filtered("make a device", "os.mknod(HOME + '/device', 0o20666, os.makedev(1, 1))"),
    filtered("make a FIFO", "os.mkfifo(HOME + '/fifo')"),
    # /proc, /sys
    landlock("read the parent's environment", "open(f'/proc/{PARENT}/environ').read()"),
    landlock("write the parent's memory", "open(f'/proc/{PARENT}/mem', 'r+b')"),
    landlock("list the parent's descriptors", "os.listdir(f'/proc/{PARENT}/fd')"),
    landlock("go through the parent's root", "open(f'/proc/{PARENT}/root' + VICTIM)"),
    landlock("go through the parent's working folder", "open(f'/proc/{PARENT}/cwd/pyproject.toml')"),
    landlock("be spared when memory is short", "open('/proc/self/oom_score_adj', 'w').write('-1000')"),
    landlock("set where cores go", "open('/proc/sys/kernel/core_pattern', 'w')"),
    landlock("drop the page cache", "open('/proc/sys/vm/drop_caches', 'w')"),
    landlock("leave its control group", "open(CGROUP + '/cgroup.procs', 'w')"),
    # Sockets
    filtered("connect to a Unix socket", "send(socket.AF_UNIX, socket.SOCK_STREAM, UNIX)"),
    filtered("connect to every Unix socket of /proc/self/net/unix",
             "[send(socket.AF_UNIX, socket.SOCK_STREAM, s.split()[-1]) for s in open('/proc/self/net/unix') if '/' in s]"),
    filtered("connect to an abstract Unix socket", "send(socket.AF_UNIX, socket.SOCK_STREAM, ABSTRACT)"),
    filtered("connect by TCP", "send(socket.AF_INET, socket.SOCK_STREAM, TCP)"),
    filtered("send by UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(NAME.encode(), UDP)"),
    filtered("send by UDP over IPv6",
             "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(NAME.encode(), ('::1', UDP[1]))"),
    filtered("listen on TCP", "socket.create_server(('127.0.0.1', 0))"),
    filtered("speak to the kernel by netlink", "socket.socket(16, socket.SOCK_RAW, 0).bind((0, 0))"),
    filtered("listen to packets", "socket.socket(17, socket.SOCK_RAW, 3)"),
    filtered("use the kernel's ciphers", "socket.socket(38, socket.SOCK_SEQPACKET)"),
    filtered("speak to the hypervisor", "socket.socket(40, socket.SOCK_STREAM)"),
    filtered("make a pair of datagram sockets",
             "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(NAME.encode(), UNIX + '.dgram')"),
    filtered("connect a socket of a pair",
             "call('connect', socket.socketpair()[0].fileno(), b'\\x01\\0' + UNIX.encode() + b'\\0', 110)"),
    filtered("bind a socket of a pair", "call('bind', socket.socketpair()[0].fileno(), b'\\x01\\0\\0' + NAME.encode(), 20)"),
    filtered("send from a socket of a pair to an address", "socket.socketpair()[0].sendto(NAME.encode(), UNIX)"),
    Attempt("send a message from a pair to an address", "socket.socketpair()[0].sendmsg([NAME.encode()], (), 0, UNIX)",
            "stream sockets send to their peer only", ("EISCONN", "ENOTSUP")),
    # Other processes
    filtered("signal the parent", "os.kill(PARENT, signal.SIGCONT)"),
    filtered("end a process", "os.kill(PROCESS, signal.SIGKILL)"),
    filtered("end all processes", "os.kill(-1, signal.SIGURG)"),
    filtered("signal a process group", "os.killpg(PROCESS, signal.SIGKILL)"),
    filtered("signal a thread", "call('tgkill', PROCESS, PROCESS, 9)"),
    filtered("signal a thread in the old way", "call('tkill', PROCESS, 9)"),
    filtered("queue a signal", "call('rt_sigqueueinfo', PROCESS, 9, buffer)"),
    filtered("open a process", "os.pidfd_open(PROCESS)"),
    filtered("signal an open process", "call('pidfd_send_signal', os.open(f'/proc/self', os.O_RDONLY), 9, 0, 0)"),
    filtered("take a process' descriptor", "call('pidfd_getfd', 0, 0, 0)"),
    filtered("have a process signalled", "fcntl.fcntl(0, fcntl.F_SETOWN, PROCESS)"),
    filtered("trace a process", "call('ptrace', 16, PROCESS, 0, 0)"),
    filtered("seize a process", "call('ptrace', 0x4206, PROCESS, 0, 0)"),
    filtered("read a process' memory", "call('process_vm_readv', PROCESS, buffer, 1, buffer, 1, 0)"),
    filtered("write a process' memory", "call('process_vm_writev', PROCESS, buffer, 1, buffer, 1, 0)"),
    filtered("compare a process with itself", "call('kcmp', PROCESS, os.getpid(), 0, 0, 0)"),
    filtered("limit a process", "resource.prlimit(PROCESS, resource.RLIMIT_NOFILE, (0, 0))"),
    filtered("slow a process down", "os.setpriority(os.PRIO_PROCESS, PROCESS, 19)"),
    filtered("slow its user's processes down", "os.setpriority(os.PRIO_USER, os.getuid(), 19)"),
    filtered("pin a process to a core", "os.sched_setaffinity(PROCESS, {0})"),
    filtered("reschedule a process", "os.sched_setscheduler(PROCESS, os.SCHED_IDLE, os.sched_param(0))"),
    filtered("take the disk from a process", "call('ioprio_set', 1, PROCESS, 3 << 13)"),
    filtered("move a process' memory", "call('migrate_pages', PROCESS, 1, buffer, buffer)"),
    # Processes of its own
    filtered("fork", "os.fork() or time.sleep(60)"),
    filtered("fork without copying", "call('vfork')"),
    filtered("fork by clone", "call('clone', signal.SIGCHLD, 0, 0, 0, 0)"),
    Attempt("fork by clone3",
            "call('clone3', struct.pack('QQQQQQQQ', *[0] * 4, signal.SIGCHLD, 0, 0, 0), 64)", FILTER, ("ENOSYS",)),
    filtered("start a program", "subprocess.Popen(['/bin/sleep', '60'])"),
    filtered("start a daemon", "subprocess.Popen(['/bin/sleep', '60'], start_new_session=True)"),
    filtered("spawn a program", "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})"),
    filtered("outlive the parent", "call('prctl', 1, 0, 0, 0, 0)"),
    filtered("hide its open files", "call('prctl', 4, 0, 0, 0, 0)"),
    # Memory that persists, or that no limit counts
    filtered("make System V shared memory", "call('shmget', 0, 2**20, 0o1600)"),
    filtered("make a System V queue", "call('msgget', 0, 0o1600)"),
    filtered("make System V semaphores", "call('semget', 0, 1, 0o1600)"),
    filtered("make a POSIX queue", "call('mq_open', 'x', os.O_CREAT | os.O_RDWR, 0o600, 0)"),
    filtered("make a file in memory", "os.memfd_create('x')"),
    filtered("make secret memory", "call('memfd_secret', 0)"),
    # Namespaces and mounts
    filtered("make a user namespace", "call('unshare', 0x10000000)"),
    filtered("make a mount namespace", "call('unshare', 0x00020000)"),
    filtered("clone into a user namespace", "call('clone', 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)"),
    filtered("enter a namespace", "call('setns', os.open('/proc/self/ns/mnt', os.O_RDONLY), 0)"),
    filtered("mount", "call('mount', 'none', HOME, 'tmpfs', 0, 0)"),
    filtered("bind a folder", "call('mount', '/etc', HOME, 0, 4096, 0)"),
    filtered("unmount", "call('umount2', '/proc', 2)"),
    filtered("mount in the new way", "call('fsopen', 'tmpfs', 0)"),
    filtered("clone a mount", "call('open_tree', -100, '/', 1)"),
    filtered("change the root", "os.chroot(HOME)"),
    # The kernel
    filtered("set io_uring up", "call('io_uring_setup', 4, buffer)"),
    filtered("enter io_uring", "call('io_uring_enter', 0, 0, 0, 0, 0, 0)"),
    filtered("add a key", "call('add_key', 'user', 'x', b'x', 1, -3)"),
    filtered("read the keys", "call('keyctl', 0, -3, 0, 0, 0)"),
    filtered("load BPF", "call('bpf', 0, buffer, 48)"),
    filtered("watch performance", "call('perf_event_open', buffer, 0, -1, -1, 0)"),
    filtered("handle page faults", "call('userfaultfd', 0)"),
    filtered("watch all files", "call('fanotify_init', 0, 0)"),
    filtered("change its personality", "call('personality', 0x40000)"),
    filtered("load a module", "call('init_module', b'x', 1, b'')"),
    filtered("load a kernel", "call('kexec_load', 0, 0, 0, 0)"),
    filtered("restart the machine", "call('reboot', 0, 0, 0, 0)"),
    filtered("set the clock", "call('clock_settime', 99, buffer)"),
    filtered("rename the machine", "call('sethostname', b'x', -1)"),
    filtered("read the kernel's log", "call('syslog', 3, buffer, 64)"),
    filtered("type into a terminal", "fcntl.ioctl(0, termios.TIOCSTI, b'x')"),
    filtered("paste into a terminal", "fcntl.ioctl(0, 0x541C, b'\\x03')"),
    Attempt("make an x32 call", "call(0x40000000 + 41, socket.AF_UNIX, socket.SOCK_STREAM, 0)", FILTER, ("ENOSYS",)),
    Attempt("make a call that is newer than the filter", "call(470, 0, 0, 0)", FILTER, ("ENOSYS",)),
    # Rights
    Attempt("raise a limit",
            "resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)", KERNEL, ("ValueError",)),
    Attempt("raise its priority", "os.setpriority(os.PRIO_PROCESS, 0, -10)", KERNEL, ("EACCES", "EPERM")),
    Attempt("become another user", "os.setuid(54320)", KERNEL, ("EPERM",)),
    Attempt("take other groups", "os.setgroups([0])", KERNEL, ("EPERM",)),
    Attempt("take capabilities back", "capset((1 << 32) - 1)", KERNEL, ("EPERM",)),
)  # fmt: skip

INSIDE = """
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, struct, subprocess, sys, termios, threading, time
from bunriwiki.artifacts.programs import ProgressWriter
from bunriwiki.sandbox.syscalls import number

HOME = os.environ["HOME"]
SITE = next(path for path in sys.path if path.endswith("-packages"))
CGROUP = next(path for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/pids") if os.path.exists(path + "/cgroup.procs"))
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer(4096)
OTHERS = {"renameat2": {"x86_64": 316, "aarch64": 276}}

def call(which, *arguments):
    if isinstance(which, str):
        machine = os.uname().machine
        which = OTHERS[which][machine] if which in OTHERS else number(which, machine)
    given = [value.encode() if isinstance(value, str) else ctypes.c_long(value) if isinstance(value, int) else value
             for value in arguments]
    if LIBC.syscall(ctypes.c_long(which), *given) == -1:
        raise OSError(ctypes.get_errno(), "")

def capset(bits):
    if LIBC.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", bits, bits, bits, 0, 0, 0)) == -1:
        raise OSError(ctypes.get_errno(), "")

def send(family, kind, address):
    with socket.socket(family, kind) as opened:
        opened.connect(address)
        opened.sendall(NAME.encode())

progress = ProgressWriter()
"""
"""The beginning of every program that these tests run in the sandbox."""

BATCH = """
for NAME, VICTIM, READABLE, code in attempts:
    try:
        exec(code)
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error.errno))
    except Exception as error:
        outcome = type(error).__name__
    else:
        outcome = "done"
    progress.write(name=NAME, outcome=outcome)
"""
