#!/usr/bin/python3
"""What programs make of a machine that others use too: how many cores they take, whether they sleep while they wait, and
what they say where the limit of address space is too low."""
import os
import pathlib
import resource
import subprocess
import tempfile
import unittest

from processes import BIN, DATA, TRAINING, Program, wait_until

CORES = os.sysconf("SC_NPROCESSORS_ONLN")
USABLE = len(os.sched_getaffinity(0))


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    return {**kept, **variables}


def start_edge(*flags, before=(), **variables):
    """An edge whose aggregator is not there; `before` is a command that runs it."""
    assignments = [f"{name}={value}" for name, value in environment(**variables).items()]
    return Program("env", "-i", *assignments, *before, BIN / "tandem-edge", "--insecure", "--name", "cam-1",
                   "--endpoint", "tcp://127.0.0.1:1", "--data", DATA, *flags)


class ControlGroup:
    """A group with a quota of cores, and one inside it without; None where this machine lets nobody make them."""

    def __init__(self, folder, quota):
        self.folder = folder
        self.inner = folder / "inner"
        self.inner.mkdir(parents=True)
        if (folder / "cpu.cfs_quota_us").exists():
            period = int((folder / "cpu.cfs_period_us").read_text())
            (folder / "cpu.cfs_quota_us").write_text(str(int(quota * period)))
        else:
            (folder / "cpu.max").write_text(f"{int(quota * 100000)} 100000")

    @classmethod
    def make(cls, quota):
        for parent in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"):
            folder = pathlib.Path(parent) / f"tandem-test-{os.getpid()}"
            try:
                return cls(folder, quota)
            except OSError:
                for made in (folder / "inner", folder):
                    if made.exists():
                        made.rmdir()
        return None

    def close(self):
        self.inner.rmdir()
        self.folder.rmdir()


class FewCoresTest(unittest.TestCase):
    def said(self, program):
        """The line that says what the program computes with."""
        self.addCleanup(program.close)
        lines = wait_until(lambda: [line for line in list(program.lines) if "intra-op" in line] or
                           program.process.poll() is not None, "the line about the threads")
        self.assertTrue(isinstance(lines, list), program.output)
        return lines[0]

    def policy(self, program):
        variables = pathlib.Path(f"/proc/{program.process.pid}/environ").read_text().split("\0")
        return [entry for entry in variables if entry.startswith(("OMP_", "GOMP_"))]

    def test_threads_that_wait_sleep_unless_the_user_wants_otherwise(self):
        plain = start_edge("--threads", "2")
        self.assertIn("2 intra-op thread(s) that sleep while they wait", self.said(plain))
        self.assertEqual(self.policy(plain), ["OMP_WAIT_POLICY=PASSIVE"])
        # Found under its name by ps and pkill, as before.
        self.assertEqual(pathlib.Path(f"/proc/{plain.process.pid}/comm").read_text().strip(), "tandem-edge")
        wanted = start_edge("--threads", "2", OMP_WAIT_POLICY="active")
        self.assertIn("that spin while they wait", self.said(wanted))
        self.assertEqual(self.policy(wanted), ["OMP_WAIT_POLICY=active"])
        counted = start_edge("--threads", "2", GOMP_SPINCOUNT="1000")
        self.said(counted)
        self.assertEqual(self.policy(counted), ["GOMP_SPINCOUNT=1000"])

    def test_a_configuration_from_a_pipe_arrives(self):
        for program in ("tandem-edge", "tandem-aggregator"):
            done = subprocess.run([BIN / program, "--config", "/dev/stdin"], input="thread = 1\n", text=True,
                                  capture_output=True, timeout=60, env=environment())
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("thread", done.stderr)

    def test_started_by_the_dynamic_loader_it_runs_as_it_is(self):
        headers = subprocess.run(["readelf", "-l", BIN / "tandem"], check=True, capture_output=True, text=True).stdout
        loader = headers.split("program interpreter: ")[1].split("]")[0]
        done = subprocess.run([loader, BIN / "tandem", "--version"], capture_output=True, text=True, timeout=60,
                              env=environment())
        self.assertEqual((done.returncode, done.stdout[:7]), (0, "tandem "), done.stderr)

    def test_without_a_count_it_leaves_one_of_the_cores_it_may_use(self):
        self.assertIn(f"{max(1, USABLE - 1)} intra-op thread(s)", self.said(start_edge()))
        one = self.said(start_edge(before=("taskset", "-c", min(os.sched_getaffinity(0)))))
        self.assertIn("1 intra-op thread(s), may use 1 of ", one)
        if CORES > 1:
            self.assertIn(f"may use 1 of {CORES} cores (affinity)", one)
        self.assertIn("1 intra-op thread(s)", self.said(start_edge(OMP_NUM_THREADS="1")))

    def test_a_quota_of_a_control_group_bounds_it(self):
        if CORES < 2:
            self.skipTest("there is one core only")
        group = ControlGroup.make(1.5)
        if group is None:
            self.skipTest("this machine lets nobody make a control group with a quota")
        self.addCleanup(group.close)
        enter = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', group.inner / "cgroup.procs")
        self.assertIn(f"1 intra-op thread(s), may use 1 of {CORES} cores (quota 1.50)", self.said(start_edge(before=enter)))
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([*enter, BIN / "tandem", "simulate", *TRAINING, "--clients", "2", "--rounds", "1",
                                   "--data", DATA, "--run-dir", f"{folder}/run"], capture_output=True, text=True,
                                  timeout=60, env=environment())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 worker(s)", done.stdout + done.stderr)

    def test_a_limit_of_address_space_ends_it_or_is_enough(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        refused = 0
        for mebibytes in (560, 700, 850, 1050, 1200, 1400, 2000):
            limit = mebibytes << 20
            done = subprocess.run(
                [BIN / "tandem", "simulate", *TRAINING, "--clients", "2", "--rounds", "1", "--data", DATA, "--quiet",
                 "--run-dir", f"{folder.name}/{mebibytes}"],
                capture_output=True, text=True, timeout=120, env=environment(OMP_NUM_THREADS="2"),
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
            if done.returncode == 127:
                continue  # too little for the dynamic loader, which says so
            if done.returncode != 0:
                refused += 1
                self.assertEqual(done.returncode, 1, f"{mebibytes}: {done.stderr}")
                self.assertIn(f"the limit of address space, {mebibytes} MiB (ulimit -v, LimitAS=)", done.stderr)
                self.assertIn("OMP_NUM_THREADS=1", done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(refused, 0)


if __name__ == "__main__":
    unittest.main()
