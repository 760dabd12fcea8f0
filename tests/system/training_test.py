#!/usr/bin/python3
"""The main job between real processes: files left behind, equality with the simulator, lost and returning
edges, clean stops, encryption."""
import hashlib
import json
import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from processes import BIN, DATA, TRAINING, Fleet, RecordingProxy, wait_until


class TrainingTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def fleet(self, devices):
        fleet = Fleet(self.folder, devices)
        self.addCleanup(fleet.close)
        return fleet

    def test_a_run_completes_and_leaves_every_file(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator("--rounds", "3", "--eval-data", DATA)
        edges = [fleet.edge(device, "--save-front", f"{self.folder}/{device}.safetensors") for device in fleet.devices]
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        for edge in edges:
            self.assertEqual(edge.wait(), 0, edge.output)
        summary = fleet.summary()
        self.assertEqual(
            {key: summary[key] for key in ("status", "algorithm", "strategy", "model", "cut", "rounds", "clients")},
            {"status": "completed", "algorithm": "parallel", "strategy": "fedavg", "model": "cnn", "cut": 1,
             "rounds": 3, "clients": 2},
        )
        for key in ("eval_accuracy", "eval_loss", "seconds", "examples_per_second", "bytes_up", "bytes_down",
                    "peak_rss_bytes"):
            self.assertGreater(summary[key], 0, key)
        rounds = fleet.metrics("round")
        self.assertEqual([line["round"] for line in rounds], [1, 2, 3])
        for key in ("loss", "accuracy", "eval_loss", "eval_accuracy", "clients", "examples", "seconds", "bytes_up",
                    "bytes_down"):
            self.assertIn(key, rounds[0])
        self.assertEqual(rounds[0]["examples"], 240)
        for name in ("config.toml", "model.safetensors", "front.safetensors", "tail.safetensors", "report.html"):
            self.assertTrue((fleet.run_dir / name).is_file(), name)
        self.assertEqual(len(list((fleet.run_dir / "checkpoints").glob("*.safetensors"))), 2)
        self.assertEqual(list(fleet.run_dir.rglob("*.tmp*")), [])
        front = (fleet.run_dir / "front.safetensors").read_bytes()
        self.assertEqual(tensors(front), tensors(read(f"{self.folder}/client-1.safetensors")))

    def test_processes_and_the_simulator_give_the_same_weights_to_the_bit(self):
        fleet = self.fleet(["client-1", "client-2", "client-3"])
        flags = ["--rounds", "2", "--seed", "5", "--augment", "crop:1,flip", "--algorithm", "parallel:window=2"]
        aggregator = fleet.aggregator(*flags)
        edges = [fleet.edge(device) for device in fleet.devices]
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        for edge in edges:
            edge.wait()
        simulated = f"{self.folder}/simulated"
        subprocess.run([BIN / "tandem", "simulate", "--clients", "3", "--data", DATA, "--run-dir", simulated,
                        *TRAINING, *flags, "--quiet"], check=True, capture_output=True)
        ours, theirs = (hashlib.sha256(read(f"{path}/model.safetensors")).hexdigest()
                        for path in (fleet.run_dir, simulated))
        self.assertEqual(ours, theirs)

    def test_a_killed_edge_does_not_stop_the_others_and_rejoins(self):
        fleet = self.fleet(["client-1", "client-2", "client-3"])
        aggregator = fleet.aggregator("--rounds", "1000000", "--local-steps", "60", "--client-timeout", "1",
                                      "--stragglers", "drop:deadline=5s")
        edges = {device: fleet.edge(device) for device in fleet.devices}
        wait_until(lambda: len(fleet.metrics("round")) >= 1, "the first round")
        edges["client-2"].stop(signal.SIGKILL)
        wait_until(lambda: fleet.metrics("leave"), "the aggregator to notice")
        self.assertEqual(fleet.metrics("leave")[0]["client"], "client-2")
        without_it = len(fleet.metrics("round"))
        wait_until(lambda: len(fleet.metrics("round")) > without_it + 1, "rounds without it")
        self.assertEqual(fleet.metrics("round")[-1]["clients"], 2)
        edges["client-2"] = fleet.edge("client-2")
        wait_until(lambda: fleet.metrics("round")[-1]["clients"] == 3, "a round with it again")
        self.assertEqual(fleet.metrics("round")[0]["clients"], 3)
        self.assertEqual([line["client"] for line in fleet.metrics("join")].count("client-2"), 2)
        aggregator.stop(signal.SIGINT)
        self.assertEqual(aggregator.wait(), 130, aggregator.output)

    def test_devices_are_added_and_revoked_while_the_run_goes_on(self):
        fleet = self.fleet(["client-1", "client-2"])
        devices = lambda *arguments: subprocess.run([BIN / "tandem", "devices", *arguments, "--fleet", fleet.kits],
                                                    check=True, capture_output=True, text=True).stdout
        aggregator = fleet.aggregator("--rounds", "1000000", "--local-steps", "60", "--stragglers", "drop:deadline=30s")
        edges = {device: fleet.edge(device) for device in fleet.devices}
        wait_until(lambda: len(fleet.metrics("round")) >= 1, "the first round")
        started = time.monotonic()
        self.assertIn("client-2", devices("revoke", "client-2"))
        # At once, not when a deadline or a silence has passed.
        wait_until(lambda: fleet.metrics("leave"), "the aggregator to know", seconds=10)
        self.assertEqual([(line["client"], line["detail"]) for line in fleet.metrics("leave")],
                         [("client-2", "its key was taken off the device list")])
        print(f"revoked {time.monotonic() - started:.1f} s after the command")
        self.assertEqual(edges["client-2"].wait(30), 1, edges["client-2"].output)
        self.assertIn("refused this device's key", edges["client-2"].output)
        alone = len(fleet.metrics("round"))
        wait_until(lambda: len(fleet.metrics("round")) > alone + 1, "rounds without it")
        self.assertEqual(fleet.metrics("round")[-1]["clients"], 1)
        self.assertEqual(fleet.metrics("missed-step"), [])
        # Listed again, it is let in, as is the one that never was there.
        devices("add", "client-2", "client-3")
        wait_until(lambda: "devices added: client-2, client-3" in aggregator.output or
                   "devices added: client-3, client-2" in aggregator.output, "the new list")
        for device in ["client-2", "client-3"]:
            edges[device] = fleet.edge(device)
        wait_until(lambda: fleet.metrics("round")[-1]["clients"] == 3, "a round of all three")
        self.assertIsNone(edges["client-1"].process.poll())
        self.assertIn("devices revoked: client-2", aggregator.output)
        self.assertIn("cut off client-2 at 127.0.0.1: its key was taken off the device list", aggregator.output)
        aggregator.stop(signal.SIGINT)
        self.assertEqual(aggregator.wait(), 130, aggregator.output)

    def test_an_edge_that_loses_its_connection_goes_on_where_it_was(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator("--rounds", "2", "--local-steps", "300", "--stragglers", "drop:deadline=20s")
        proxy = BreakingProxy(fleet.endpoint)
        self.addCleanup(proxy.close)
        edges = [fleet.edge("client-1", endpoint=proxy.endpoint), fleet.edge("client-2")]
        wait_until(lambda: fleet.metrics("join") and proxy.recorded, "traffic through the proxy")
        wait_until(lambda: len(proxy.recorded) > 1_000_000, "the round to be under way")
        proxy.break_connections()
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        for edge in edges:
            self.assertEqual(edge.wait(), 0, edge.output)
        self.assertEqual([line["client"] for line in fleet.metrics("reconnect")], ["client-1"])
        self.assertEqual([line["clients"] for line in fleet.metrics("round")], [2, 2])
        self.assertEqual(fleet.metrics("missed-step"), [])
        # Nothing was lost or applied twice: the weights are those of an undisturbed run.
        simulated = f"{self.folder}/simulated"
        subprocess.run([BIN / "tandem", "simulate", "--clients", "2", "--data", DATA, "--run-dir", simulated, *TRAINING,
                        "--rounds", "2", "--local-steps", "300", "--quiet"], check=True, capture_output=True)
        self.assertEqual(tensors((fleet.run_dir / "model.safetensors").read_bytes()),
                         tensors(read(f"{simulated}/model.safetensors")))

    def test_an_edge_waits_for_an_aggregator_that_is_not_up_yet(self):
        fleet = self.fleet(["client-1"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = "tcp://127.0.0.1:%d" % free.getsockname()[1]
        edge = fleet.edge("client-1", endpoint=endpoint)
        wait_until(lambda: "waiting for the aggregator at " + endpoint in edge.output, "the edge to say what it waits for")
        aggregator = fleet.aggregator("--rounds", "1", endpoint=endpoint)
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        self.assertEqual(edge.wait(), 0, edge.output)

    def test_interrupts_stop_both_sides_cleanly(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator("--rounds", "1000")
        edges = [fleet.edge(device) for device in fleet.devices]
        wait_until(lambda: len(fleet.metrics("round")) >= 1, "the first round")
        edges[0].stop(signal.SIGINT)
        self.assertEqual(edges[0].wait(10), 130, edges[0].output)
        wait_until(lambda: fleet.metrics("leave"), "the aggregator to hear of it")
        self.assertEqual(fleet.metrics("leave")[0]["detail"], "interrupted")
        aggregator.stop(signal.SIGINT)
        self.assertEqual(aggregator.wait(10), 130, aggregator.output)
        self.assertEqual(fleet.summary()["status"], "interrupted")
        self.assertTrue((fleet.run_dir / "model.safetensors").exists())
        wait_until(lambda: "the aggregator pauses (interrupted)" in edges[1].output, "the edge to hear of it")
        rounds = len(fleet.metrics("round"))
        again = fleet.aggregator("--rounds", "1000", "--resume", endpoint=fleet.endpoint)
        wait_until(lambda: len(fleet.metrics("round")) > rounds, "the run to go on")
        for program in (edges[1], again):
            program.stop(signal.SIGINT)
            self.assertEqual(program.wait(10), 130, program.output)

    def test_tensors_cannot_be_found_in_encrypted_traffic_but_can_in_plain_traffic(self):
        for security in (True, False):
            with self.subTest(security=security), tempfile.TemporaryDirectory() as folder:
                fleet = Fleet(folder, ["client-1"])
                self.addCleanup(fleet.close)
                aggregator = fleet.aggregator("--rounds", "1", security=security)
                proxy = RecordingProxy(fleet.endpoint)
                self.addCleanup(proxy.close)
                edge = fleet.edge("client-1", endpoint=proxy.endpoint, security=security)
                self.assertEqual(aggregator.wait(), 0, aggregator.output)
                self.assertEqual(edge.wait(), 0, edge.output)
                front = tensors((fleet.run_dir / "front.safetensors").read_bytes())
                needle = front["0.0.bias"]
                self.assertEqual(len(needle), 128)
                self.assertGreater(len(proxy.recorded), 100_000)
                self.assertEqual(needle in proxy.recorded, not security)
                self.assertEqual(b"TNDM" in proxy.recorded, not security)


def read(path):
    return pathlib.Path(path).read_bytes()


def tensors(data):
    """name -> raw bytes of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {name: body[slice(*entry["data_offsets"])] for name, entry in header.items()}


class BreakingProxy(RecordingProxy):
    """Also cuts the connections that are open now; new ones pass."""

    def __init__(self, endpoint):
        self.open = []
        super().__init__(endpoint)

    def _pass_on(self, source, sink):
        self.open.append(source)
        super()._pass_on(source, sink)

    def break_connections(self):
        for end in list(self.open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


if __name__ == "__main__":
    unittest.main()
