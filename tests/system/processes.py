"""Starts Tandem's programs as separate processes over real sockets, for the tests beside this file."""
import json
import os
import pathlib
import queue
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time

import quick_start

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()
PROGRAMS = [str(BIN / name) for name in ("tandem", "tandem-aggregator", "tandem-edge", "export_rounds")]
DATA = "synthetic:images,examples=240,classes=4,size=8"
TRAINING = ["--model", "cnn", "--cut", "1", "--batch-size", "16", "--threads", "1", "--num-classes", "4",
            "--learning-rate", "0.05", "--optimizer", "sgd:momentum=0.9"]


def overriding(defaults, flags):
    """The defaults without those that the flags give anew, and then the flags."""
    kept = []
    for flag, value in zip(defaults[::2], defaults[1::2]):
        if flag not in flags:
            kept += [flag, value]
    return [*kept, *flags]


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def start(arguments, stdin=0, stdout=1, stderr=2, cwd=None, env=None, preexec_fn=None):
    """A process, as subprocess.Popen makes it; the files are open ones, or their descriptors."""
    arguments = [str(a) for a in arguments]
    if quick_start.LIBRARY and arguments[0] in PROGRAMS and preexec_fn is None:
        return quick_start.start(arguments, (stdin, stdout, stderr), cwd, env)
    return subprocess.Popen(arguments, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, preexec_fn=preexec_fn)


def run(*arguments, timeout=120, check=False, **options):
    """What subprocess.run gives for a program: its status, and as text what it printed."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(arguments, stdout=output, stderr=errors, **options)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        for file in (output, errors):
            file.seek(0)
        done = subprocess.CompletedProcess(arguments, process.returncode, output.read().decode(), errors.read().decode())
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


class Program:
    """A running program; what it prints is kept."""

    def __init__(self, *arguments, cwd=None):
        self.lines = []
        read_end, write_end = os.pipe()
        self.process = start(arguments, stdout=write_end, stderr=write_end, cwd=cwd)
        os.close(write_end)
        self.said = open(read_end, encoding="utf-8")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.said:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self):
        return "\n".join(self.lines)

    def wait(self, seconds=60):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None
        self.reader.join(5)
        self.said.close()
        return status

    def stop(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)

    def close(self):
        self.stop()
        self.wait(10)


class Fleet:
    """Kits for devices and the programs started from them; everything ends with the fleet."""

    def __init__(self, folder, devices):
        self.folder = pathlib.Path(folder)
        self.devices = devices
        self.kits = self.folder / "fleet"
        self.run_dir = self.folder / "run"
        self.data = DATA
        self.programs = []
        self.endpoint = None
        self.provision(self.kits, devices)

    @staticmethod
    def provision(out, devices):
        arguments = [BIN / "tandem", "provision", "--out", out, "--endpoint", "tcp://127.0.0.1:5555"]
        for device in devices:
            arguments += ["--device", device]
        run(*arguments, check=True)

    def start(self, *arguments):
        program = Program(*arguments)
        self.programs.append(program)
        return program

    def aggregator(self, *flags, security=True, endpoint="tcp://127.0.0.1:*"):
        endpoint_file = self.folder / "endpoint"
        endpoint_file.unlink(missing_ok=True)
        base = ["--config", self.kits / "aggregator/aggregator.toml"] if security else ["--insecure"]
        program = self.start(
            BIN / "tandem-aggregator", *base, "--endpoint", endpoint, "--endpoint-file", endpoint_file,
            "--clients", len(self.devices), "--run-dir", self.run_dir, *overriding(TRAINING, flags),
        )
        wait_until(lambda: endpoint_file.exists() or program.process.poll() is not None, "the aggregator to listen")
        self.endpoint = endpoint_file.read_text().strip() if endpoint_file.exists() else None
        return program

    def edge(self, device, *flags, kits=None, endpoint=None, security=True):
        index = self.devices.index(device) if device in self.devices else 0
        base = (["--config", (kits or self.kits) / device / "edge.toml"] if security
                else ["--insecure", "--name", device])
        return self.start(
            BIN / "tandem-edge", *base, "--endpoint", endpoint or self.endpoint, "--data", self.data, "--shard",
            f"{index}/{len(self.devices)}", "--threads", "1", *flags,
        )

    def close(self):
        for program in self.programs:
            program.close()

    def metrics(self, event=None):
        path = self.run_dir / "metrics.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if event is None or line["event"] == event]

    def summary(self):
        return json.loads((self.run_dir / "summary.json").read_text())


class RecordingProxy:
    """Passes TCP connections on to an endpoint and keeps every byte that goes by, either way."""

    def __init__(self, endpoint):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.target = (host, int(port))
        self.recorded = bytearray()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                with self.lock:
                    self.recorded += data
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def close(self):
        self.listener.close()


class ShapingProxy:
    """Passes TCP connections on to an endpoint over a link of a given bandwidth (bytes a second, for each
    connection and direction), delay and jitter (seconds; each piece is late by delay and up to jitter, in order),
    which can be cut and mended."""

    PIECE = 1 << 14

    def __init__(self, endpoint, bandwidth=None, delay=0.0, jitter=0.0, seed=1):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.target = (host, int(port))
        self.bandwidth, self.delay, self.jitter = bandwidth, delay, jitter
        self.random = random.Random(seed)
        self.passed = 0
        self.connections = 0
        self.hang_up = False
        self.lock = threading.Lock()
        self.open = set()  # guarded by lock
        self.listener = None
        self._listen(0)
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{self.port}"

    def cut(self, down=True, hang_up=False):
        """An outage: every connection breaks, and new ones are refused (with hang_up accepted and closed at once,
        as a forwarder does whose target is gone) until cut(False)."""
        self.hang_up = down and hang_up
        if down and not hang_up and self.listener:
            self._stop_listening()
        if not down and not self.listener:
            self._listen(self.port)
        if down:
            with self.lock:
                connections, self.open = self.open, set()
            for connection in connections:
                self._end(connection)

    def close(self):
        self.cut()

    def _listen(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.acceptor = threading.Thread(target=self._accept, args=(self.listener,), daemon=True)
        self.acceptor.start()

    def _stop_listening(self):
        # Wakes the thread in accept(); close() alone would leave it, and the port, waiting for one more.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join(5)
        self.listener.close()
        self.listener = None

    @staticmethod
    def _end(connection):
        for end in connection:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = None if self.hang_up else socket.create_connection(self.target, 5)
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            for end in (near, far):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open.add((near, far))
            for source, sink in ((near, far), (far, near)):
                pieces = queue.Queue(16)
                for work in (self._read, self._write):
                    threading.Thread(target=work, args=(source, sink, pieces, (near, far)), daemon=True).start()

    def _read(self, source, sink, pieces, connection):
        due = 0.0
        try:
            while data := source.recv(self.PIECE):
                due = max(due, time.monotonic() + self.delay + self.jitter * self.random.random())
                pieces.put((due, data))
        except OSError:
            pass
        pieces.put((due, b""))

    def _write(self, source, sink, pieces, connection):
        free_at = 0.0
        while True:
            due, data = pieces.get()
            if not data:
                break
            now = time.monotonic()
            start = max(due, free_at, now)
            free_at = start + (len(data) / self.bandwidth if self.bandwidth else 0)
            # The piece is there when its last byte is.
            time.sleep(max(free_at, start) - now)
            with self.lock:
                self.passed += len(data)
            try:
                sink.sendall(data)
            except OSError:
                break
        with self.lock:
            known = connection in self.open
            self.open.discard(connection)
        if known:
            self._end(connection)
        while data:  # the reader may wait for room
            data = pieces.get()[1]
