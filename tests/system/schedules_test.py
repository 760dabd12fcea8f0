#!/usr/bin/python3
"""Every schedule, strategy and objective between real processes over CURVE gives what the simulator gives, to
the bit; twenty edges at once; combinations that make no sense are refused with the reason."""
import hashlib
import json
import tempfile
import unittest

from processes import BIN, DATA, TRAINING, Fleet, overriding, run

COMBINATIONS = {
    "splitfed-v1": ["--algorithm", "splitfed-v1"],
    "splitfed-v1, adam, fedadam": ["--algorithm", "splitfed-v1", "--optimizer", "adam",
                                   "--learning-rate", "0.003", "--strategy", "fedadam"],
    "splitfed-v2": ["--algorithm", "splitfed-v2"],
    "relay": ["--algorithm", "relay"],
    "federated": ["--algorithm", "federated"],
    "federated, fedprox": ["--algorithm", "federated", "--strategy", "fedprox:mu=0.1"],
    "federated, scaffold": ["--algorithm", "federated", "--strategy", "scaffold", "--optimizer", "sgd"],
    "federated, fednova": ["--algorithm", "federated", "--strategy", "fednova"],
    "federated, median": ["--algorithm", "federated", "--strategy", "median"],
    "federated, fedbuff": ["--algorithm", "federated", "--strategy", "fedbuff:buffer=2,order=planned"],
    "parallel, fedyogi": ["--strategy", "fedyogi"],
    "parallel, U-shaped": ["--head-blocks", "1"],
    "splitfed-v1, U-shaped": ["--algorithm", "splitfed-v1", "--head-blocks", "2"],
    "relay, U-shaped": ["--algorithm", "relay", "--head-blocks", "1"],
    "CSE-FSL": ["--algorithm", "splitfed-v2", "--edge-objective", "local:tail-interval=2"],
    "FSL-SAGE": ["--algorithm", "splitfed-v2:window=2", "--edge-objective", "aligned"],
    "parallel, local": ["--edge-objective", "local"],
    "sampled": ["--clients-per-round", "2", "--rounds", "4"],
    "FedBN, evaluated where the data is": ["--model", "resnet18:norm=batch,width=8", "--batch-norm", "local",
                                           "--local-steps", "3", "--algorithm", "federated"],
    "FedBN, fedbuff": ["--model", "resnet18:norm=batch,width=8", "--batch-norm", "local", "--local-steps", "3",
                       "--algorithm", "federated", "--strategy", "fedbuff:buffer=2,order=planned"],
}

# Robust strategies need more clients than three; the rest is here so that nothing in the lists is left out.
SEVEN = {
    "trimmed-mean": ["--algorithm", "federated", "--strategy", "trimmed-mean:fraction=0.2"],
    "krum": ["--algorithm", "federated", "--strategy", "krum"],
    "splitfed-v1, multi-krum": ["--algorithm", "splitfed-v1", "--strategy", "multi-krum"],
    "parallel, bulyan": ["--strategy", "bulyan"],
    "fedavgm": ["--algorithm", "federated", "--strategy", "fedavgm"],
    "fedadagrad": ["--algorithm", "federated", "--strategy", "fedadagrad"],
    "splitfed-v2, U-shaped": ["--algorithm", "splitfed-v2", "--head-blocks", "1"],
    "frozen batch norm": ["--model", "resnet18:norm=batch,width=8", "--batch-norm", "freeze", "--local-steps", "2"],
    "a part of the clients": ["--algorithm", "federated", "--clients-per-round", "3", "--rounds", "3"],
}


class SchedulesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_processes(self, flags, devices, edge_flags=()):
        fleet = Fleet(self.folder, devices)
        self.addCleanup(fleet.close)
        aggregator = fleet.aggregator("--quiet", *overriding(["--rounds", "2"], flags))
        edges = [fleet.edge(device, "--quiet", *edge_flags) for device in fleet.devices]
        self.assertEqual(aggregator.wait(120), 0, aggregator.output)
        for edge in edges:
            self.assertEqual(edge.wait(), 0, edge.output)
        return fleet

    def check_processes_against_the_simulator(self, combinations, clients):
        for name, flags in combinations.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.folder = folder
                hold_out = ["--hold-out", "0.2"]
                fleet = self.run_processes(flags, [f"client-{i + 1}" for i in range(clients)], hold_out)
                simulated = f"{folder}/simulated"
                run(BIN / "tandem", "simulate", "--clients", clients, "--data", DATA, "--run-dir", simulated, "--quiet",
                    *hold_out, *overriding([*TRAINING, "--rounds", "2"], flags), check=True)
                runs = [fleet.run_dir, fleet.folder / "simulated"]
                ours, theirs = (hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest() for run in runs)
                self.assertEqual(ours, theirs)
                ours, theirs = (json.loads((run / "summary.json").read_text()) for run in runs)
                for key in ("rounds", "clients", "eval_accuracy", "eval_loss", "algorithm", "strategy"):
                    self.assertEqual(ours[key], theirs[key], key)
                self.assertGreater(ours["eval_accuracy"], 0)
                fleet.close()

    def test_processes_and_the_simulator_give_the_same_weights_to_the_bit(self):
        self.check_processes_against_the_simulator(COMBINATIONS, 3)

    def test_so_they_do_with_seven_clients(self):
        self.check_processes_against_the_simulator(SEVEN, 7)

    def test_twenty_edges_at_once(self):
        devices = [f"client-{i:02}" for i in range(1, 21)]
        fleet = self.run_processes(["--clients-per-round", "10", "--rounds", "3"], devices)
        rounds = fleet.metrics("round")
        self.assertEqual([line["clients"] for line in rounds], [10, 10, 10])
        self.assertEqual(fleet.metrics("missed-step"), [])
        self.assertGreater(len({line["client"] for line in fleet.metrics("client")}), 10)

    def test_combinations_that_make_no_sense_are_refused_with_the_reason(self):
        refused = {
            ("--algorithm", "federated", "--head-blocks", "1"): "the whole model is on the device already",
            ("--algorithm", "federated", "--edge-objective", "local"): "there is no tail",
            ("--edge-objective", "local", "--head-blocks", "1"): "labels",
            ("--edge-objective", "end-to-end:tail-interval=5"): "it takes none",
            ("--head-blocks", "1", "--algorithm", "parallel:window=2"): "crosses the network twice",
            ("--head-blocks", "9"): "head-blocks must be 0..",
            ("--algorithm", "relay", "--strategy", "fedadam"): "nothing is merged",
            ("--algorithm", "relay", "--batch-norm", "local"): "passes whole",
            ("--strategy", "scaffold"): "control variates are read off the path of plain sgd",
            ("--strategy", "scaffold", "--optimizer", "sgd", "--batch-norm", "local"): "batch norm is not merged",
            ("--strategy", "scaffold", "--optimizer", "sgd", "--algorithm", "parallel:window=2"): "at the weights of that step",
            ("--strategy", "fednova", "--optimizer", "adam"): "normalises by the steps of sgd",
            ("--strategy", "fedbuff"): "choose --algorithm federated",
            ("--algorithm", "federated", "--strategy", "fedbuff", "--clients-per-round", "2"): "there are no rounds",
            ("--algorithm", "federated", "--strategy", "fedbuff", "--stragglers", "drop:round-deadline=9s"): "there are no rounds",
            ("--strategy", "krum:f=2"): "at least 7 clients",
            ("--strategy", "krum:f=0", "--clients-per-round", "2"): "at least 3 clients in a round",
            ("--algorithm", "federated", "--stragglers", "late"): "only parallel joins batches; --strategy fedbuff takes updates whenever they come",
            ("--strategy", "fedadm"): "fedadam",
            ("--strategy", "fedadam:lr=1"): "lr",
            ("--edge-objective", "local:head=liner"): "linear",
        }
        for flags, reason in refused.items():
            with self.subTest(flags):
                ran = run(BIN / "tandem", "simulate", "--clients", "3", "--data", DATA, "--run-dir", f"{self.folder}/refused",
                          *overriding(["--model", "cnn", "--optimizer", "sgd:momentum=0.9"], flags))
                self.assertIn(ran.returncode, (1, 2), ran.stdout)
                self.assertIn(reason, ran.stdout + ran.stderr)


if __name__ == "__main__":
    unittest.main()
