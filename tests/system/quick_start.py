"""Starts programs that are linked with LibTorch without loading it each time: half a second becomes a tenth. What runs is
the same main() in a process of its own; only how it came to be there is not what a user does. Tests for which that
matters run without TANDEM_QUICK_START, which names the library of tests/support/quick_start.cpp."""
import atexit
import ctypes
import math
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

LIBRARY = os.environ.get("TANDEM_QUICK_START")
PR_SET_CHILD_SUBREAPER = 36


class Loaded:
    """A program that has loaded everything and waits to be copied."""

    programs = {}  # path -> Loaded; guarded by lock
    lock = threading.Lock()

    def __init__(self, program):
        # The copies are ours to wait for.
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError("cannot become the parent of orphans")
        self.socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self.process = subprocess.Popen(
                [program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[far.fileno()],
                env={**os.environ, "LD_PRELOAD": LIBRARY, "TANDEM_QUICK_START_SOCKET": str(far.fileno())})
        atexit.register(self.close)

    def copy(self, text, files):
        descriptors = [file if isinstance(file, int) else file.fileno() for file in files]
        socket.send_fds(self.socket, ["".join(part + "\0" for part in text).encode()], descriptors)
        pid = int(self.socket.recv(100))
        assert self.socket.recv(100) == b"."
        return Copy(pid)

    def close(self):
        self.socket.close()
        self.process.wait(10)


class Copy:
    """A process made so, used like a subprocess.Popen."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None
        self.lock = threading.Lock()

    def poll(self):
        with self.lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid != 0:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout=None):
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, how):
        if self.poll() is None:
            os.kill(self.pid, how)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def start(arguments, files, cwd=None, env=None):
    """A process with these files as its descriptors 0, 1 and 2."""
    environment = os.environ if env is None else env
    text = [str(pathlib.Path(cwd or ".").resolve()), str(len(arguments)), *arguments,
            *(f"{name}={value}" for name, value in environment.items())]
    with Loaded.lock:
        if arguments[0] not in Loaded.programs:
            Loaded.programs[arguments[0]] = Loaded(arguments[0])
        return Loaded.programs[arguments[0]].copy(text, files)
