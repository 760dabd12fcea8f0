#!/usr/bin/python3
"""A device whose messages take several times the client timeout to cross its link is in every round, and nothing that
it sends, or is sent, crosses the link twice."""
import tempfile
import unittest

from processes import Fleet, ShapingProxy

DEVICES = ["slow", "quick"]
# A message takes three times as long to cross the links below.
IMPATIENT = ["--client-timeout", "2"]


class SlowLink(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """Starts all that is waited for below: the links take the time, not the machine."""
        # 1.6 MB of weights, six seconds each way.
        cls.whole_models = cls.start_fleet("synthetic:images?examples=64&classes=4&size=8", 264_000, "--algorithm",
                                           "federated", "--model", "mlp?hidden=2048-128", "--rounds", "1",
                                           "--local-steps", "1")
        # 262 kB for the step, six seconds each way.
        cls.activations = cls.start_fleet("synthetic:images?examples=128&classes=4&size=16", 43_000, "--model", "cnn",
                                          "--cut", "2", "--batch-size", "128", "--rounds", "1")

    @classmethod
    def start_fleet(cls, data, bandwidth, *flags):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        fleet = Fleet(folder.name, DEVICES)
        cls.addClassCleanup(fleet.close)
        fleet.data = data
        fleet.aggregator(*IMPATIENT, *flags)
        proxy = ShapingProxy(fleet.endpoint, bandwidth=bandwidth)
        cls.addClassCleanup(proxy.close)
        for device, endpoint in (("slow", proxy.endpoint), ("quick", fleet.endpoint)):
            fleet.edge(device, "--resend-after", "2", endpoint=endpoint)
        return fleet

    def check(self, fleet, rounds):
        for program in fleet.programs:
            self.assertEqual(program.wait(120), 0, program.output)
        for event in fleet.metrics():
            self.assertIn(event["event"], ("join", "leave", "client", "round"), event)
        self.assertEqual({leave["detail"] for leave in fleet.metrics("leave")}, {"the run is complete"})
        self.assertEqual(fleet.summary()["lost_rounds"], {})
        for device in DEVICES:
            records = [line for line in fleet.metrics("client") if line["client"] == device]
            self.assertEqual(len(records), rounds)
            for line in records:
                self.assertEqual(line["missed_steps"], 0, line)
                # Headers and names weigh more here than with real sizes.
                for way in ("up", "down"):
                    self.assertLess(line[f"bytes_{way}"], 1.05 * line[f"bytes_{way}_formula"] + 8000, line)

    def test_whole_models(self):
        self.check(self.whole_models, 1)

    def test_activations(self):
        self.check(self.activations, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
