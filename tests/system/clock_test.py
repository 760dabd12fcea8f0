"""Clocks of the day that jump by hours, forth and back, in every program of a run that is killed twice on the way:
the run goes on without a pause, and ends with the weights of one that nothing disturbed, to the bit."""
import datetime
import json
import os
import pathlib
import tempfile
import unittest

from processes import wait_until
from survival import SurvivingFleet

DEVICES = ["cam-1", "cam-2"]
JUMPING_CLOCK = pathlib.Path(os.environ.get("TANDEM_JUMPING_CLOCK", "build/release/lib/libjumping_clock.so")).resolve()
FLAGS = ["--rounds", "4", "--checkpoint-steps", "1", "--log-format", "json"]


class Clock(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.assertTrue(JUMPING_CLOCK.exists(), JUMPING_CLOCK)

    def fleet(self, name):
        folder = pathlib.Path(self.folder.name) / name
        folder.mkdir()
        fleet = SurvivingFleet(folder, DEVICES, *FLAGS)
        self.addCleanup(fleet.close)
        return fleet

    @staticmethod
    def start_everybody(fleet):
        fleet.start_aggregator()
        for device in DEVICES:
            fleet.start_edge(device)

    def calm_weights(self):
        fleet = self.fleet("calm")
        self.start_everybody(fleet)
        fleet.finish()
        return fleet.weights()

    def kill_all_after_steps(self, fleet, steps):
        before = fleet.position()
        wait_until(lambda: fleet.position() >= (before[0], before[1] + steps), f"{steps} steps after {before}", 60)
        self.assertTrue(fleet.alive(None), "the run was over before it was disturbed: give it more rounds")
        for name in [None, *DEVICES]:
            fleet.kill(name)
        self.note_jumps(fleet)
        self.scramble_file_times(fleet)

    @staticmethod
    def scramble_file_times(fleet):
        """The kernel's clock stays as it is; what it would have written had it jumped too: the newest is the oldest."""
        for folder in [fleet.run_dir, *(fleet.folder / device for device in DEVICES)]:
            for age, path in enumerate(sorted((folder / "checkpoints").iterdir())):
                os.utime(path, (1_000_000_000 - 3600 * age,) * 2)

    def note_jumps(self, fleet):
        """How far the times of two lines in a row that the aggregator logged lie apart, hours."""
        # Debian 13's LibTorch brings a library that prints a line of its own about such a clock.
        records = [json.loads(line) for line in fleet.running[None].lines if line.startswith("{")]
        times = [datetime.datetime.fromisoformat(record["time"].removesuffix("Z")) for record in records]
        self.jumps += [abs(after - before).total_seconds() / 3600 for before, after in zip(times, times[1:])]

    def disturbed_weights(self):
        os.environ["LD_PRELOAD"] = str(JUMPING_CLOCK)
        self.addCleanup(os.environ.pop, "LD_PRELOAD", None)
        self.jumps = []
        fleet = self.fleet("disturbed")
        self.start_everybody(fleet)
        for steps in (5, 9):
            self.kill_all_after_steps(fleet, steps)
            self.start_everybody(fleet)
        fleet.finish()
        self.note_jumps(fleet)
        self.assertEqual(len(fleet.metrics("resume")), 2)
        return fleet.weights()

    def test_a_clock_that_jumps_changes_nothing(self):
        calm = self.calm_weights()
        self.assertEqual(self.disturbed_weights(), calm)
        self.assertGreater(max(self.jumps), 1, "the clock did not jump")


if __name__ == "__main__":
    unittest.main(verbosity=2)
