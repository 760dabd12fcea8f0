#!/usr/bin/python3
"""Profiles of both programs: what is in the file, that nothing is measured twice, and how bad input is refused."""
import json
import pathlib
import subprocess
import tempfile
import unittest

from processes import BIN

# Other tests run beside this one: no machine is too restless here.
QUICK = ["--model", "lenet5", "--batch-size", "4", "--budget", "0.2", "--largest-drift", "1000"]


class Profile(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "device.json"

    def profile(self, *flags, program="tandem-edge"):
        return subprocess.run([BIN / program, "profile", *flags], capture_output=True, text=True, timeout=120)

    def measured(self, *flags, program="tandem-edge"):
        done = self.profile(*QUICK, "--out", self.out, *flags, program=program)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, json.loads(self.out.read_text())

    def test_a_device_and_an_aggregator_write_what_a_plan_needs(self):
        for program, role in (("tandem-edge", "client"), ("tandem-aggregator", "aggregator")):
            said, profile = self.measured("--name", "cam-1", "--memory-mib", "512", "--link", "up=5,down=20,latency=10ms",
                                          program=program)
            self.assertEqual(profile["link"], {"up_bytes_per_ms": 625, "down_bytes_per_ms": 2500, "latency_ms": 10})
            self.assertEqual((profile["name"], profile["role"], profile["memory_bytes"]), ("cam-1", role, 512 << 20))
            self.assertEqual([block["name"] for block in profile["blocks"]], ["conv1", "conv2", "fc1", "fc2", "fc3"])
            self.assertTrue(all(block["forward_ms"]["median"] > 0 for block in profile["blocks"]))
            self.assertEqual([(each["first"], each["last"]) for each in profile["suffixes"]], [(b, 5) for b in range(5)])
            self.assertIn("conv1", said)
            self.assertIn(f"profile: {self.out}", said)

    def test_nothing_is_measured_twice_for_nothing(self):
        _, first = self.measured()
        said, again = self.measured()
        self.assertIn("are up to date; --again measures anew", said)
        self.assertEqual(again, first)
        for change in (["--num-classes", "5"], ["--optimizer", "adam"], ["--threads", "2"], ["--role", "helper"], ["--again"]):
            said, other = self.measured(*change)
            self.assertNotIn("up to date", said, change)
            self.assertNotEqual(other, first, change)

    def test_the_shape_may_come_from_data(self):
        _, profile = self.measured("--data", "synthetic:images,examples=20,classes=7,size=12")
        self.assertEqual(profile["fingerprint"]["input_shape"], [1, 12, 12])
        self.assertEqual(profile["fingerprint"]["num_classes"], 7)

    def test_bad_input_is_named_and_nothing_is_written(self):
        for flags, part in (([], "--out is missing"),
                            (["--out", self.out, "--model", "lenet"], "did you mean lenet5?"),
                            (["--out", self.out, "--batch-size", "0"], "--batch-size"),
                            (["--out", self.out, "--input-shape", "28xx28"], "--input-shape"),
                            (["--out", self.out, "--budget", "0"], "--budget"),
                            (["--out", self.out, "--role", "server"], "--role"),
                            (["--out", self.out, "--link", "up=5"], "--link"),
                            (["--out", self.out, "--data", "synthetic:picture"], "picture"),
                            (["--out", self.out, "--model", "resnet18:width=4", "--batch-size", "1"], "--batch-size")):
            done = self.profile(*flags)
            self.assertEqual(done.returncode, 2, (flags, done.stderr))
            self.assertIn(part, done.stderr)
            self.assertFalse(self.out.exists())
        done = self.profile(*QUICK, "--out", self.out.parent / "nowhere" / "device.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nowhere", done.stderr)


if __name__ == "__main__":
    unittest.main()
