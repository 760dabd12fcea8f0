#!/usr/bin/python3
"""A clean stop is as good as a kill: a device that is stopped and started again has its place. The aggregator's own
pause is nobody's silence, and who comes back is only called a new program where its state was lost."""
import pathlib
import signal
import tempfile
import time
import unittest

from processes import ShapingProxy, wait_until
from survival import SurvivingFleet

DEVICES = ["cam-1", "cam-2"]
DATA = "synthetic:images,examples=480,classes=4,size=8"
SCHEDULES = {
    "parallel": [],
    "parallel, U-shaped": ["--head-blocks", "1"],
    "splitfed-v2": ["--algorithm", "splitfed-v2"],
    "relay": ["--algorithm", "relay"],
    "federated": ["--algorithm", "federated"],
    "fedbuff": ["--algorithm", "federated", "--strategy", "fedbuff:buffer=2,order=planned"],
}


class Pauses(unittest.TestCase):
    def fleet(self, *flags):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        fleet = SurvivingFleet(pathlib.Path(folder.name), DEVICES, *flags, data=DATA)
        self.addCleanup(fleet.close)
        fleet.start_aggregator()
        return fleet

    def calm_weights(self, *flags):
        fleet = self.fleet(*flags)
        for device in DEVICES:
            fleet.start_edge(device)
        fleet.finish()
        return fleet.weights()

    def test_a_device_that_is_stopped_and_started_again_leaves_no_trace(self):
        for name, schedule in SCHEDULES.items():
            with self.subTest(name):
                flags = ["--rounds", "4", "--checkpoint-steps", "1", *schedule]
                calm = self.calm_weights(*flags)
                fleet = self.fleet(*flags)
                for device in DEVICES:
                    fleet.start_edge(device)
                wait_until(lambda: fleet.position("cam-1") >= (1, 3), "three steps of a device")
                fleet.running["cam-1"].stop(signal.SIGTERM)
                self.assertEqual(fleet.running["cam-1"].wait(10), 130, fleet.running["cam-1"].output)
                wait_until(lambda: fleet.metrics("pause"), "the pause to be known")
                fleet.start_edge("cam-1")
                fleet.finish()
                self.assertEqual(fleet.weights(), calm)
                (pause,) = fleet.metrics("pause")
                self.assertEqual((pause["client"], pause["detail"]),
                                 ("cam-1", "interrupted; its place is kept for 3000 ms"))
                self.assertEqual(fleet.metrics("not-resumed"), [])
                self.assertNotIn("a new program", str(fleet.metrics()))
                self.assertNotIn("silent for", str(fleet.metrics()))
                self.assertEqual(fleet.summary()["lost_rounds"], {})

    def test_without_checkpoints_in_a_round_a_paused_device_is_in_the_round_again(self):
        fleet = self.fleet("--rounds", "2", "--algorithm", "federated", "--local-epochs", "40")
        for device in DEVICES:
            fleet.start_edge(device)
        wait_until(lambda: "round 1/" in fleet.running["cam-1"].output or fleet.position("cam-1") > (0, 0), "its first step")
        fleet.running["cam-1"].stop(signal.SIGTERM)
        self.assertEqual(fleet.running["cam-1"].wait(10), 130)
        fleet.start_edge("cam-1")
        fleet.finish()
        for line in fleet.metrics("round"):
            self.assertEqual((line["clients"], line["examples"]), (2, 480 * 40), line)
        self.assertNotIn("a new program", str(fleet.metrics()))

    def test_after_a_long_outage_the_same_program_is_no_new_one(self):
        fleet = self.fleet("--rounds", "100000", "--min-clients", "1", "--client-timeout", "1", "--stragglers",
                           "drop:update-deadline=600s")
        proxy = ShapingProxy(fleet.endpoint)
        self.addCleanup(proxy.close)
        fleet.start_edge("cam-1", endpoint=proxy.endpoint)
        fleet.start_edge("cam-2")
        wait_until(lambda: len(fleet.metrics("round")) > 2, "rounds")
        proxy.cut()
        wait_until(lambda: fleet.metrics("leave"), "the device to be gone")
        self.assertEqual(fleet.metrics("leave")[0]["detail"], "silent for 1000 ms")
        proxy.cut(False)
        wait_until(lambda: len(fleet.metrics("join")) == 3, "the device to be back")
        back = fleet.metrics("join")[2]
        self.assertEqual(back["client"], "cam-1")
        self.assertIn("back with its optimiser state", back["detail"])
        self.assertNotIn("a new program", str(fleet.metrics()))
        # A program that was started again without its folder has lost it, and that is said.
        fleet.kill("cam-2")
        wait_until(lambda: len(fleet.metrics("leave")) == 2, "the other to be gone")
        fleet.edge("cam-2")
        wait_until(lambda: "a new program" in str(fleet.metrics("join")), "the new program to be named")

    def test_the_aggregators_own_pause_is_nobodys_silence(self):
        fleet = self.fleet("--rounds", "100000", "--min-clients", "1", "--client-timeout", "1", "--stragglers",
                           "drop:deadline=2s,update-deadline=600s")
        for device in DEVICES:
            fleet.start_edge(device)
        for rounds in (2, 5):
            wait_until(lambda: len(fleet.metrics("round")) > rounds, "rounds")
            fleet.running[None].stop(signal.SIGSTOP)
            time.sleep(4)  # longer than any deadline
            fleet.running[None].stop(signal.SIGCONT)
            before = len(fleet.metrics("round"))
            wait_until(lambda: len(fleet.metrics("round")) > before + 3, "rounds after the pause")
        for line in fleet.metrics("round"):
            self.assertEqual(line["clients"], 2, line)
        for event in fleet.metrics():
            self.assertIn(event["event"], ("join", "reconnect", "client", "round"), event)


if __name__ == "__main__":
    unittest.main(verbosity=2)
