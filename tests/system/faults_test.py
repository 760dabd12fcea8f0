#!/usr/bin/python3
"""Runs whose messages are lost, doubled, delayed, reordered and damaged on both sides give the weights of an
undisturbed run, to the bit; connections that are cut again and again end no run."""
import collections
import concurrent.futures
import re
import tempfile
import time
import unittest

import at_once
from processes import Fleet, ShapingProxy, overriding, wait_until

DEVICES = ["client-1", "client-2", "client-3"]
FAULTS = "drop=0.01,duplicate=0.01,reorder=0.01,delay=5ms,corrupt=0.01"
# No deadline fires: what is late is waited for.
PATIENT = ["--rounds", "3", "--stragglers", "wait:update-deadline=120s", "--client-timeout", "60"]
ALGORITHMS = {
    "parallel": ["--rounds", "5"],
    "splitfed-v1": ["--algorithm", "splitfed-v1", "--rounds", "8"],
    "federated": ["--algorithm", "federated", "--local-steps", "5", "--rounds", "20"],
}


def counts(output):
    """The figures of the line that a program with --fault ends with."""
    line = re.search(r"--fault: of (\d+) messages (\d+) were dropped, (\d+) duplicated, (\d+) delayed, (\d+) "
                     r"reordered and (\d+) corrupted; (\d+) connections were cut, and (\d+)", output)
    names = ["messages", "dropped", "duplicated", "delayed", "reordered", "corrupted", "disconnected", "discarded"]
    return dict(zip(names, map(int, line.groups())))


class FleetTest(unittest.TestCase):
    def run_fleet(self, flags, aggregator_faults=(), edge_faults=lambda index: (), edge_seconds=30):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        fleet = Fleet(folder.name, DEVICES)
        self.addCleanup(fleet.close)
        aggregator = fleet.aggregator("--quiet", *overriding(PATIENT, flags), *aggregator_faults)
        edges = [fleet.edge(device, "--quiet", "--resend-after", "0.3", *edge_faults(index))
                 for index, device in enumerate(DEVICES)]
        self.assertEqual(aggregator.wait(180), 0, aggregator.output)
        for edge in edges:
            self.assertEqual(edge.wait(edge_seconds), 0, edge.output)
        self.assertEqual(fleet.metrics("missed-step") + fleet.metrics("leave-round"), [])
        self.assertEqual(fleet.summary()["status"], "completed")
        return (fleet.run_dir / "model.safetensors").read_bytes(), aggregator, edges


class FaultsTest(FleetTest):
    def test_disturbed_runs_give_the_weights_of_undisturbed_ones(self):
        # Three at a time: mostly they wait for what was lost.
        with concurrent.futures.ThreadPoolExecutor(len(ALGORITHMS)) as pool:
            calm = {name: pool.submit(self.run_fleet, flags) for name, flags in ALGORITHMS.items()}
            disturbed = {(name, seed): pool.submit(
                self.run_fleet, flags, ["--fault", f"{FAULTS},seed={seed}"],
                lambda index, seed=seed: ["--fault", f"{FAULTS},seed={10 * seed + index}"])
                for name, flags in ALGORITHMS.items() for seed in (1, 2)}
        for name in ALGORITHMS:
            with self.subTest(name):
                expected, _, _ = calm[name].result()
                totals = collections.Counter()
                for seed in (1, 2):
                    weights, aggregator, edges = disturbed[name, seed].result()
                    self.assertIn("this run disturbs its own messages: drop=0.01", aggregator.output)
                    for program in (aggregator, *edges):
                        totals.update(counts(program.output))
                    self.assertTrue(weights == expected, f"{name}, seed {seed}: other weights\n{aggregator.output}")
                print(f"{name}: {dict(totals)}", flush=True)
                for fault in ("dropped", "duplicated", "delayed", "reordered", "corrupted"):
                    self.assertGreater(totals[fault], 0, fault)

    def test_an_outage_is_waited_out_and_both_sides_say_so(self):
        self.check_an_outage(hang_up=False)

    def test_so_is_one_behind_a_forwarder_that_hangs_up(self):
        self.check_an_outage(hang_up=True)

    def check_an_outage(self, hang_up):
        with tempfile.TemporaryDirectory() as folder:
            fleet = Fleet(folder, DEVICES)
            self.addCleanup(fleet.close)
            aggregator = fleet.aggregator(*overriding(PATIENT, ["--rounds", "40", "--client-timeout", "3"]))
            proxy = ShapingProxy(fleet.endpoint, delay=0.002, jitter=0.003)
            self.addCleanup(proxy.close)
            edges = [fleet.edge(device, "--resend-after", "1", endpoint=proxy.endpoint)
                     for device in DEVICES[:2]]
            # The round cannot begin: both sides say why.
            wait_until(lambda: "clients for the first round: 2 of 3 are here" in aggregator.output,
                       "the aggregator to say that it waits")
            for edge in edges:
                wait_until(lambda edge=edge: "waiting for other clients: the first round" in edge.output,
                           "an edge to say that it waits")
            edges.append(fleet.edge(DEVICES[2], "--resend-after", "1", endpoint=proxy.endpoint))
            wait_until(lambda: len(fleet.metrics("round")) >= 2, "two rounds")
            proxy.cut(hang_up=hang_up)
            for edge in edges:
                wait_until(lambda edge=edge: "waiting for the aggregator at " + proxy.endpoint in edge.output,
                           "an edge to say what it waits for")
            self.assertLess(len(fleet.metrics("round")), 40)
            proxy.cut(False)
            mended = time.monotonic()
            for edge in edges:
                wait_until(lambda edge=edge: "reconnected" in edge.output or "joined" in
                           edge.output.split("is lost")[-1], "an edge to come back", 10)
            print(f"back {time.monotonic() - mended:.1f} s after the outage", flush=True)
            self.assertLess(time.monotonic() - mended, 5)
            self.assertEqual(aggregator.wait(180), 0, aggregator.output)
            for edge in edges:
                self.assertEqual(edge.wait(), 0, edge.output)
            self.assertEqual(fleet.summary()["rounds"], 40)


class CutsTest(FleetTest):
    """By itself: where the machine has other work, a second between two cuts is soon too short for any progress."""

    def test_connections_cut_again_and_again_end_no_run(self):
        expected, _, _ = self.run_fleet(["--rounds", "40"])
        weights, aggregator, edges = self.run_fleet(
            ["--rounds", "40"], ["--fault", "disconnect=1s"], lambda index: ["--fault", "disconnect=1s"])
        cuts = [counts(program.output)["disconnected"] for program in (aggregator, *edges)]
        print(f"connections cut by the aggregator and the edges: {cuts}", flush=True)
        self.assertGreater(cuts[0], 0)
        self.assertGreater(sum(cuts[1:]), 0)
        self.assertTrue(weights == expected, aggregator.output)


load_tests = at_once.load_tests

if __name__ == "__main__":
    unittest.main()
