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
    def run_fleet(self, data, bandwidth, *flags):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        fleet = Fleet(folder.name, DEVICES)
        self.addCleanup(fleet.close)
        fleet.data = data
        aggregator = fleet.aggregator(*IMPATIENT, *flags)
        proxy = ShapingProxy(fleet.endpoint, bandwidth=bandwidth)
        self.addCleanup(proxy.close)
        edges = [fleet.edge(device, "--resend-after", "2", endpoint=endpoint)
                 for device, endpoint in (("slow", proxy.endpoint), ("quick", fleet.endpoint))]
        for program in (aggregator, *edges):
            self.assertEqual(program.wait(120), 0, program.output)
        return fleet

    def check(self, fleet, rounds):
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
        # 1.6 MB of weights, six seconds each way.
        fleet = self.run_fleet("synthetic:images,examples=64,classes=4,size=8", 264_000, "--algorithm", "federated",
                               "--model", "mlp:hidden=2048-128", "--rounds", "1", "--local-steps", "1")
        self.check(fleet, 1)

    def test_activations(self):
        # 262 kB for the step, six seconds each way.
        fleet = self.run_fleet("synthetic:images,examples=128,classes=4,size=16", 43_000, "--model", "cnn", "--cut",
                               "2", "--batch-size", "128", "--rounds", "1")
        self.check(fleet, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
