"""A run of four devices whose programs are killed twenty times, each by itself and all at once, and whose network
fails for a while, ends with the weights of a run that nothing disturbed, to the bit. Prints what each death cost."""
import os
import pathlib
import random
import re
import tempfile
import time
import unittest

from processes import ShapingProxy, wait_until
from survival import SurvivingFleet

DEVICES = ["cam-1", "cam-2", "cam-3", "cam-4"]
DATA = "synthetic:images,examples=960,classes=4,size=8"
KILLS = int(os.environ.get("TANDEM_KILLS", "20"))
# A device that is disturbed at every step still has many of them to make.
FLAGS = ["--rounds", "6", "--checkpoint-steps", "1", "--algorithm"]


class Survival(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def fleet(self, name, algorithm):
        folder = pathlib.Path(self.folder.name) / name
        folder.mkdir()
        fleet = SurvivingFleet(folder, DEVICES, *FLAGS, algorithm, data=DATA)
        self.addCleanup(fleet.close)
        fleet.start_aggregator()
        return fleet

    def calm_weights(self, algorithm):
        fleet = self.fleet("calm-" + algorithm, algorithm)
        for device in DEVICES:
            fleet.start_edge(device)
        fleet.finish()
        return fleet.weights()

    def wait_for_progress(self, fleet, since, what):
        """Until everybody named has made and kept a step of its own."""
        for name, kept in since.items():
            wait_until(lambda: fleet.position(name) > kept or not fleet.alive(None), what, 60)

    def kill_and_restart(self, fleet, victims):
        """Seconds from the first start until each of those that died has made and kept a step of its own."""
        for victim in victims:
            fleet.kill(victim)
        kept = {victim: fleet.position(victim) for victim in victims}
        began = time.monotonic()
        for victim in victims:
            if victim is None:
                fleet.start_aggregator()
            else:
                fleet.start_edge(victim, endpoint=self.proxy.endpoint)
        self.wait_for_progress(fleet, kept, f"the first step after the death of {victims}")
        return time.monotonic() - began

    def check_nobody_went_far_back(self, fleet):
        """At most one step is redone: whoever goes on from a checkpoint stands where it stood, or a step before."""
        for record in fleet.metrics("not-resumed"):
            self.fail(str(record))
        for device in DEVICES:
            lines = fleet.running[device].output
            for before, after in re.findall(
                    r"from the checkpoint after (\d+) steps of round \d+[\s\S]*?going on with round \d+, step (\d+)", lines):
                self.assertLessEqual(int(before) - int(after), 1, lines)

    def disturbed_weights(self, algorithm, kills=KILLS):
        chance = random.Random(1)
        fleet = self.fleet("disturbed-" + algorithm, algorithm)
        self.proxy = ShapingProxy(fleet.endpoint)
        self.addCleanup(self.proxy.close)
        for device in DEVICES:
            fleet.start_edge(device, endpoint=self.proxy.endpoint)
        wait_until(lambda: fleet.position() > (0, 0), "the first step", 60)
        everybody = [None, *DEVICES]
        turns = [[victim] for victim in everybody] + [everybody]
        costs = {}
        for i in range(kills):
            victims = turns[i % len(turns)]
            since = fleet.position()
            steps = chance.randrange(3)
            wait_until(lambda: fleet.position() >= (since[0], since[1] + steps) or not fleet.alive(None), "progress", 60)
            time_in_step = chance.random() * 0.05
            wait_until(lambda deadline=time.monotonic() + time_in_step: time.monotonic() >= deadline, "the moment")
            if not fleet.alive(None):
                self.fail("the run was over after %d kills: give it more rounds" % i)
            who = "everybody" if victims is everybody else "the aggregator" if victims == [None] else "an edge"
            costs.setdefault(who, []).append(self.kill_and_restart(fleet, victims))
            self.check_nobody_went_far_back(fleet)
            if i == kills // 2:
                self.proxy.cut()
                kept = {name: fleet.position(name) for name in everybody}
                wait_until(lambda: "waiting for the aggregator" in fleet.running[DEVICES[0]].output, "the outage to be said")
                wait_until(lambda: fleet.metrics("waiting"), "the aggregator to wait for its devices")
                self.proxy.cut(False)
                self.wait_for_progress(fleet, kept, "the first step after the outage")
        fleet.finish(300)
        for who, seconds in costs.items():
            print(f"{algorithm}: killed {who} {len(seconds)} times, back at work after "
                  f"{sum(seconds) / len(seconds):.2f} s on average, {max(seconds):.2f} s at most", flush=True)
        return fleet.weights()

    def test_parallel(self):
        self.assertEqual(self.disturbed_weights("parallel"), self.calm_weights("parallel"))

    def test_splitfed_v1(self):
        self.assertEqual(self.disturbed_weights("splitfed-v1", 6), self.calm_weights("splitfed-v1"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
