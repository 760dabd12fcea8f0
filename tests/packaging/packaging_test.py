#!/usr/bin/python3
"""The systemd units and the Dockerfile fit the programs that were built."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from processes import BIN, DATA, wait_until, Program

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "packaging/systemd").glob("*.service"))
PROGRAMS = ("tandem", "tandem-aggregator", "tandem-edge")
# In every image of Debian: what apt itself is linked with.
BASE = {"libc6", "libgcc-s1", "libstdc++6"}


def settings(unit):
    """(name, value) of every setting, in order."""
    lines = (line.strip() for line in unit.read_text().splitlines())
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and not line.startswith("#")]


def flags_of(command):
    return re.findall(r"(?<!\S)--[a-z-]+", command)


def runtime_packages():
    runtime = (ROOT / "packaging/Dockerfile").read_text().split("\nFROM ")[-1]
    listed = runtime.split("--no-install-recommends", 1)[1].split("&&", 1)[0]
    return set(listed.replace("\\", " ").split())


def linked_packages(program):
    """The packages that own the libraries a program names itself."""
    dynamic = subprocess.run(["objdump", "-p", BIN / program], check=True, capture_output=True, text=True).stdout
    needed = set(re.findall(r"NEEDED +(\S+)", dynamic))
    resolved = subprocess.run(["ldd", BIN / program], check=True, capture_output=True, text=True).stdout
    paths = {name: path for name, path in re.findall(r"(\S+) => (\S+)", resolved)}
    packages = set()
    for name in needed & paths.keys():
        path = pathlib.Path(paths[name])
        for candidate in (path.resolve(), path, pathlib.Path("/usr") / path.relative_to("/")):
            found = subprocess.run(["dpkg", "-S", candidate], capture_output=True, text=True)
            if found.returncode == 0:
                packages.add(found.stdout.split(":")[0])
                break
        else:
            raise AssertionError(f"no package owns {path}")
    return packages


class UnitsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.assertEqual([unit.name for unit in UNITS], ["tandem-aggregator.service", "tandem-edge@.service"])

    def copies(self):
        """The units with the programs that were built, and a user that exists."""
        for unit in UNITS:
            text = unit.read_text().replace("ExecStart=tandem-", f"ExecStart={BIN}/tandem-")
            (self.folder / unit.name).write_text(text.replace("=tandem\n", "=daemon\n"))
        return sorted(self.folder.glob("*.service"))

    def test_systemd_accepts_them(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze here")
        for unit in self.copies():
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
            said = "\n".join(line for line in done.stderr.splitlines() if "tandem" in line)
            self.assertEqual((done.returncode, said), (0, ""), done.stderr)

    def test_systemd_finds_them_well_confined(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze here")
        for unit in self.copies():
            # In tenths; a service without any protection has 96.
            done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", unit],
                                  capture_output=True, text=True)
            if "--offline" in done.stderr:
                self.skipTest("this systemd-analyze cannot look at files")
            self.assertEqual(done.returncode, 0, done.stdout[-400:] + done.stderr)

    def test_the_programs_know_every_flag_of_theirs(self):
        for unit in UNITS:
            command = dict(settings(unit))["ExecStart"]
            known = flags_of(subprocess.run([BIN / command.split()[0], "--help"], check=True, capture_output=True,
                                            text=True).stdout)
            unknown = [flag for flag in flags_of(command) if flag not in known]
            if "--resume" in unknown:
                self.skipTest("these programs cannot resume yet")
            self.assertEqual(unknown, [], unit.name)

    def test_a_stop_is_no_failure_and_wrong_usage_is_not_tried_again(self):
        for unit in UNITS:
            values = dict(settings(unit))
            self.assertEqual(values["SuccessExitStatus"], "130")
            self.assertEqual(values["RestartPreventExitStatus"], "2")
            self.assertEqual(values["Restart"], "on-failure")
            self.assertEqual(values["KillSignal"], "SIGTERM")

    def test_they_are_installed_with_the_programs(self):
        subprocess.run(["cmake", "--install", BIN.parent, "--prefix", self.folder / "prefix"], check=True,
                       capture_output=True)
        for path in ("bin/tandem-aggregator", "bin/tandem-edge", "lib/systemd/system/tandem-aggregator.service",
                     "lib/systemd/system/tandem-edge@.service", "lib/sysusers.d/tandem.conf"):
            self.assertTrue((self.folder / "prefix" / path).is_file(), path)


class ImageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.environment = {**os.environ, "PATH": f"{BIN}:{ROOT / 'packaging'}:{os.environ['PATH']}",
                            "TANDEM_STATUS_ENDPOINT": f"127.0.0.1:{port}",
                            "TANDEM_STATUS_FILE": str(self.folder / "status")}

    def start(self, *arguments):
        program = Program("env", *(f"{name}={self.environment[name]}" for name in
                                   ("PATH", "TANDEM_STATUS_ENDPOINT", "TANDEM_STATUS_FILE")),
                          ROOT / "packaging/docker-entrypoint.sh", *arguments)
        self.addCleanup(program.close)
        return program

    def healthcheck(self):
        return subprocess.run([ROOT / "packaging/docker-healthcheck.sh"], env=self.environment, capture_output=True,
                              text=True, timeout=10)

    def test_the_runtime_packages_are_those_that_the_programs_link(self):
        release = pathlib.Path("/etc/os-release")
        if not release.exists() or "VERSION_CODENAME=bookworm" not in release.read_text():
            self.skipTest("the image is of Debian 12, package names here are others")
        linked = set().union(*(linked_packages(program) for program in PROGRAMS))
        listed = runtime_packages()
        self.assertEqual(linked - BASE - listed, set(), "linked, but not in the Dockerfile")
        # LibTorch takes any BLAS; the image names the fast one.
        self.assertEqual(listed - linked, {"libopenblas0-openmp"}, "in the Dockerfile, but not linked")

    def test_every_file_the_dockerfile_copies_is_there_and_no_secret_goes_in(self):
        for line in (ROOT / "packaging/Dockerfile").read_text().splitlines():
            if line.startswith("COPY packaging/"):
                for path in line.split()[1:-1]:
                    self.assertTrue(os.access(ROOT / path, os.X_OK), path)
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for pattern in ("**/*.key", "fleet", "build", ".git"):
            self.assertIn(pattern, ignored)

    def test_the_entrypoint_runs_either_program_and_the_health_check_asks_it(self):
        self.assertEqual(self.healthcheck().returncode, 1)
        aggregator = self.start("aggregator", "--insecure", "--endpoint", "tcp://127.0.0.1:*", "--run-dir",
                                self.folder / "run")
        wait_until(lambda: self.healthcheck().returncode == 0, "a healthy aggregator")
        self.assertEqual(json.loads(aggregator.lines[0])["program"], "tandem-aggregator")
        aggregator.stop(signal.SIGTERM)
        self.assertEqual(aggregator.wait(10), 130, aggregator.output)
        edge = self.start("edge", "--insecure", "--name", "cam", "--data", DATA, "--log-format=text")
        wait_until(lambda: self.healthcheck().returncode == 0, "a healthy edge")
        self.assertFalse(edge.lines[0].startswith("{"), edge.output)
        edge.stop(signal.SIGTERM)
        self.assertEqual(edge.wait(10), 130, edge.output)

    def test_the_health_check_follows_the_endpoint_that_was_configured(self):
        edge = ["edge", "--insecure", "--name", "cam", "--data", DATA]
        config = self.folder / "edge.toml"
        config.write_text('status-endpoint = "127.0.0.1:*"\n')
        for flags in (["--status-endpoint", "127.0.0.1:*"], ["--status-endpoint=127.0.0.1:*"],
                      ["--config", config], [f"--config={config}"]):
            with self.subTest(flags=flags):
                program = self.start(*edge, *flags)
                wait_until(lambda: self.healthcheck().returncode == 0, "a healthy edge")
                default = self.environment["TANDEM_STATUS_ENDPOINT"]
                self.assertNotEqual((self.folder / "status").read_text().strip(), default)
                program.stop(signal.SIGTERM)
                self.assertEqual(program.wait(10), 130, program.output)
                # The file of a program that is gone is not asked in vain: nobody is healthy.
                self.assertEqual(self.healthcheck().returncode, 1)

    def test_the_examples_go_on_after_a_restart(self):
        text = (ROOT / "packaging/Dockerfile").read_text()
        examples = re.findall(r"^#     tandem (?:aggregator|edge) .*$", text, re.M)
        self.assertEqual(len(examples), 2)
        for example in examples:
            self.assertIn("--resume", example)
            self.assertIn("--run-dir /var/lib/tandem", example)

    def test_the_entrypoint_runs_the_operators_tool(self):
        for arguments, status, part in ((["--version"], 0, "tandem "), ([], 0, "Commands:"),
                                        (["report", self.folder / "none"], 1, "none")):
            program = self.start(*arguments)
            self.assertEqual(program.wait(20), status, program.output)
            self.assertIn(part, program.output)

    def test_an_unhealthy_program_is_told_with_its_reason(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.environment["TANDEM_STATUS_ENDPOINT"] = "127.0.0.1:%d" % server.getsockname()[1]
            check = subprocess.Popen([ROOT / "packaging/docker-healthcheck.sh"], env=self.environment,
                                     stdout=subprocess.PIPE, text=True)
            connection, _ = server.accept()
            with connection:
                # All of it: what is unread when a connection closes resets it.
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += connection.recv(1000) or self.fail(request)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\nstalled\n")
            said, _ = check.communicate(timeout=10)
            self.assertEqual((check.returncode, said.strip()), (1, "stalled"))


if __name__ == "__main__":
    unittest.main()
