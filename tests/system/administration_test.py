#!/usr/bin/env python3
"""Administrators at the same time, after losses, and kits in the wrong place."""
import fcntl
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

from processes import BIN, Fleet, run, wait_until

# Commands of each kind in the test of concurrent ones, started so many at a time.
COMMANDS = int(os.environ.get("TANDEM_ADMINISTRATION_COMMANDS", "50"))
AT_A_TIME = 25


def tandem(*arguments):
    return run(BIN / "tandem", *arguments, timeout=300)


class AdministrationTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)

    def fleet(self, devices):
        fleet = Fleet(self.folder, devices)
        self.addCleanup(fleet.close)
        return fleet

    def listed(self, kits):
        return {line.split()[0] for line in tandem("devices", "list", "--fleet", kits).stdout.splitlines()}

    def test_what_many_commands_confirm_at_once_is_what_is_listed(self):
        old = [f"old-{i}" for i in range(COMMANDS)]
        new = [f"new-{i}" for i in range(COMMANDS)]
        kits = self.fleet(["stays", *old]).kits
        commands = [pair for both in zip((("revoke", d) for d in old), (("add", d) for d in new)) for pair in both]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(lambda c: tandem("devices", *c, "--fleet", kits), commands))
        for (action, device), result in zip(commands, results):
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(f"{'revoked' if action == 'revoke' else 'listed'}:", result.stdout)
        self.assertEqual(self.listed(kits), {"stays", *new})
        # Each kit holds the key that is listed for it.
        keys = dict(line.split() for line in tandem("devices", "list", "--fleet", kits).stdout.splitlines())
        for device in ["stays", *new]:
            self.assertIn(f'public = "{keys[device]}"', (kits / device / "device.key").read_text(), device)
        self.assertEqual([p.name for p in (kits / "aggregator").iterdir() if "lock" in p.name or "tmp" in p.name], [])
        print(f"{len(commands)} commands, {len(keys)} devices listed")

    def test_a_fleet_that_is_made_by_many_at_once_has_one_server_key(self):
        kits = self.folder / "fleet"
        devices = [f"cam-{i}" for i in range(8)]
        with ThreadPoolExecutor(len(devices)) as pool:
            results = list(pool.map(lambda d: tandem("provision", "--out", kits, "--endpoint", "tcp://127.0.0.1:5555",
                                                     "--device", d), devices))
        for result in results:
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.listed(kits), set(devices))
        pins = {line for d in devices for line in (kits / d / "edge.toml").read_text().splitlines()
                if line.startswith("server-key")}
        self.assertEqual(len(pins), 1, pins)

    def test_a_command_that_is_killed_holds_nobody_up(self):
        kits = self.fleet(["cam"]).kits
        (kits / "aggregator/devices.lock").write_text("process 1 on host elsewhere\n")
        result = tandem("devices", "revoke", "cam", "--fleet", kits)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.listed(kits), set())

    def test_a_command_says_for_whom_it_waits(self):
        kits = self.fleet(["cam"]).kits
        with open(kits / "aggregator/devices.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("process 42 on host north\n")
            lock.flush()
            waiting = subprocess.Popen([BIN / "tandem", "devices", "revoke", "cam", "--fleet", kits],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            line = waiting.stderr.readline()
            self.assertIn("waiting for process 42 on host north, which is changing the devices of", line)
            self.assertEqual(self.listed(kits), {"cam"})
        output, _ = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 0)
        self.assertIn("revoked: cam", output)

    def test_the_aggregator_says_that_a_device_is_pinned_to_another_server_key(self):
        fleet = self.fleet(["cam"])
        others = self.folder / "others"
        Fleet.provision(others, ["cam"])
        aggregator = fleet.aggregator("--rounds", "1")
        edge = fleet.edge("cam", kits=others)
        self.assertEqual(edge.wait(60), 1, edge.output)
        self.assertIn("its key is not the one this device is pinned to", edge.output)
        # A connection that has ended before the aggregator looks at it has no address any more.
        said = r"the handshake with a peer at (127\.0\.0\.1|an unknown address) failed: a device there is pinned to another"
        wait_until(lambda: re.search(said, aggregator.output), "the aggregator to say so")
        self.assertLessEqual(len(re.findall(said, aggregator.output)), 2, aggregator.output)

    def test_one_kit_on_two_machines_is_said_by_both_sides(self):
        fleet = self.fleet(["cam", "other"])
        aggregator = fleet.aggregator("--rounds", "1")
        first = fleet.edge("cam")
        for time in (1, 2):
            wait_until(lambda: len(fleet.metrics("join")) >= time, "the first program to join")
            second = fleet.edge("cam")
            self.assertEqual(first.wait(60), 1, first.output)
            self.assertIn("another program connected with this device's key and took over", first.output)
            self.assertIn("from 127.0.0.1", first.output)
            first = second
        wait_until(lambda: len(fleet.metrics("replaced")) == 2, "the aggregator to record it")
        self.assertEqual([line["client"] for line in fleet.metrics("replaced")], ["cam", "cam"])
        self.assertIn("replaced cam: another program with its key took over from 127.0.0.1, before it was 127.0.0.1; "
                      "time 2 in this run; if its kit is on two machines", aggregator.output)
        aggregator.stop(signal.SIGINT)
        self.assertEqual(aggregator.wait(), 130, aggregator.output)


if __name__ == "__main__":
    unittest.main()
