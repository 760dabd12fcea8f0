#!/usr/bin/python3
"""What a person gets for a mistake: one clear line, the right exit status, and nothing half-written."""
import gzip
import os
import pathlib
import shutil
import socket
import struct
import tempfile
import unittest

import processes
from processes import BIN, DATA, TRAINING, Fleet, overriding, wait_until


def run(*arguments):
    done = processes.run(*arguments, timeout=60)
    return done.returncode, done.stdout + done.stderr


class BadInputTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.run_dir = self.folder / "run"

    def aggregator(self, *flags):
        return run(BIN / "tandem-aggregator", "--insecure", "--endpoint", "tcp://127.0.0.1:*", "--run-dir",
                   self.run_dir, *flags)

    def simulate(self, *flags):
        return run(BIN / "tandem", "simulate", "--run-dir", self.run_dir, *TRAINING, *flags)

    def check(self, result, status, *texts, leaves_nothing=True):
        self.assertEqual(result[0], status, result[1])
        for text in texts:
            self.assertIn(str(text), result[1])
        self.assertNotIn("terminate called", result[1])
        if leaves_nothing and self.run_dir.exists():
            self.assertEqual([p for p in self.run_dir.rglob("*") if p.is_file() and p.name != "config.toml"], [])

    def test_flags(self):
        self.check(self.aggregator("--round", "3"), 2, "--round", "rounds")
        self.check(self.aggregator("--rounds", "many"), 2, "rounds", "many")
        self.check(self.aggregator("--rounds", "0"), 2, "--rounds must be >= 1, got 0")
        self.check(self.aggregator("--clients", "2", "--min-clients", "3"), 2, "min-clients must be between 1 and clients (2), got 3")
        self.check(self.aggregator("--algorithm", "paralel"), 2, "paralel", "parallel")
        self.check(self.aggregator("--lr-schedule", "cosin"), 2, '--lr-schedule must be one of constant, cosine, step, got "cosin"; did you mean "cosine"?')
        self.check(self.aggregator("--optimizer", "sdg"), 2, "sdg", "sgd")
        self.check(self.aggregator("--learning-rate", "0"), 2, "--learning-rate must be > 0, got 0")
        self.check(self.aggregator("--optimizer", "sgd:momentum=1"), 2, '--optimizer sgd:momentum must be a finite number from 0 to below 1, got "1"')
        self.check(self.aggregator("--optimizer", "adam:weight-decay=-1"), 2,
                   '--optimizer adam:weight-decay must be a finite number >= 0, got "-1"')
        self.check(self.aggregator("--optimizer", "sgd:clip-norm=-1"), 2,
                   '--optimizer sgd:clip-norm must be a finite number >= 0, got "-1"')
        self.check(self.aggregator("--momentum", "0.9"), 2,
                   "--momentum 0.9 is now part of --optimizer: --optimizer sgd:momentum=0.9")
        self.check(self.aggregator("--optimizer", "adamw:weight-decay=0.1", "--clip-norm", "1"), 2,
                   "--clip-norm 1 is now part of --optimizer: --optimizer adamw:weight-decay=0.1,clip-norm=1")
        self.check(self.aggregator("--lr-schedule", "constant:warmup=-1"), 2,
                   "--lr-schedule constant:warmup must be a whole number from 0", 'got "-1"')
        self.check(self.aggregator("--warmup-steps", "5"), 2,
                   "--warmup-steps 5 is now part of --lr-schedule: --lr-schedule constant:warmup=5")
        self.check(self.aggregator("--batch-size", "0"), 2, "--batch-size must be >= 1, got 0")
        self.check(self.aggregator("--algorithm", "relay:window=0"), 2,
                   '--algorithm relay:window must be a whole number from 1 to 64, got "0"')
        self.check(self.aggregator("--device", "tpu"), 2, '"tpu", expected cpu, cuda or cuda:N')
        self.check(run(BIN / "tandem", "provison"), 2, 'did you mean "provision"')

    def test_flags_of_earlier_versions_are_refused_with_their_value_in_the_present_spelling(self):
        for flags, now in (
                (["--momentum", "0.9", "--weight-decay", "1e-4"], "--optimizer sgd:momentum=0.9,weight-decay=1e-4"),
                (["--tail-interval", "5", "--edge-objective", "local"], "--edge-objective local:tail-interval=5"),
                (["--align-tail-epochs", "4"], "--edge-objective aligned:tail-epochs=4"),
                (["--step-deadline", "10", "--stragglers", "late"], "--stragglers late:deadline=10s"),
                (["--update-deadline", "0"], "--stragglers drop"),
                (["--update-order", "planned", "--strategy", "fedbuff:buffer=3"], "--strategy fedbuff:buffer=3,order=planned"),
                (["--fraction", "0.25", "--clients", "40"], "--clients-per-round 10"),
                (["--window", "4", "--algorithm", "relay"], "--algorithm relay:window=4"),
                (["--max-frame-mib", "8", "--quarantine-after", "3"], "--limits frame-mib=8,mistakes=3"),
                (["--fault", "drop=0.1", "--fault-seed", "3"], "--fault drop=0.1,seed=3"),
                (["--status-endpoint", "127.0.0.1:1", "--stall-after", "5"], "--status-endpoint 127.0.0.1:1,stall-after=5s")):
            with self.subTest(flags):
                self.check(self.aggregator(*flags), 2, " now part of ", f": {now} (run")
        config = self.folder / "a.toml"
        config.write_text('optimizer = "adamw"\nclip-norm = 0.5\n')
        self.check(self.aggregator("--config", config), 2, f'key "clip-norm" in {config}:2 is now part of "optimizer": '
                   'optimizer = "adamw:clip-norm=0.5"')

    def test_a_flag_that_would_do_nothing_is_refused(self):
        key = self.folder / "some.key"
        self.check(self.simulate("--data", DATA, "--algorithm", "federated:window=2"), 2,
                   '--algorithm: unknown parameter "window" of "federated"; it takes none')
        self.check(self.simulate("--data", DATA, "--batch-norm", "freeze"), 2,
                   "--batch-norm freeze does nothing with --model cnn: it has no batch norm", "such as resnet18")
        self.check(self.aggregator("--batch-norm", "local"), 2, "--batch-norm local does nothing with --model cnn")
        self.check(self.aggregator("--input-shape", "3x8x8", "--eval-data", DATA), 2,
                   "--input-shape is 3x8x8, the examples of --eval-data have 1x8x8; leave out --input-shape")
        self.check(self.aggregator("--fault", "seed=3"), 2, "--fault seed=3 does nothing without a fault")
        self.check(self.aggregator("--key-file", key), 2, "--insecure and --key-file cannot be combined", "anybody is let in")
        self.check(self.aggregator("--devices-file", key), 2, "--insecure and --devices-file cannot be combined")
        config = self.folder / "a.toml"
        config.write_text('[training]\nlocal-steps = 3\nlocal-epochs = 2\n')
        self.check(self.aggregator("--config", config), 2, "--local-epochs 2 does nothing with --local-steps",
                   "leave it out or leave out --local-steps")
        self.check(self.aggregator("--strategy", "fedavg:order=planned"), 2,
                   '--strategy: unknown parameter "order" of "fedavg"')
        edge = [BIN / "tandem-edge", "--insecure", "--name", "x", "--data", DATA]
        self.check(run(*edge, "--fault", "seed=3"), 2, "--fault seed=3 does nothing without a fault")
        self.check(run(*edge, "--partition", "dirichlet:1"), 2, "--partition dirichlet:1 does nothing without --shard",
                   "give --shard I/N")
        self.check(run(*edge, "--seal-key", key), 2, "--seal-key", "does nothing without --run-dir", "give --run-dir")
        self.check(run(*edge, "--key-file", key), 2, "--insecure and --key-file cannot be combined", "neither side shows a key")
        self.check(run(*edge, "--server-key", "x"), 2, "--insecure and --server-key cannot be combined")

    def test_a_cut_that_does_nothing_is_said_once_and_the_run_recorded_with_it_goes_on(self):
        flags = ["--data", DATA, "--algorithm", "federated", "--rounds", "1", "--quiet"]
        training = overriding(TRAINING, ["--cut", "2"])
        status, output = run(BIN / "tandem", "simulate", "--run-dir", self.run_dir, *training, *flags,
                             "--checkpoint-steps", "5")
        self.assertEqual(status, 0, output)
        line = "--cut 2 does nothing with --algorithm federated: the whole model is on the device"
        self.assertEqual(output.count(line), 1, output)
        # What a run records holds every flag; that none of them is refused then is what counts here.
        status, output = run(BIN / "tandem", "simulate", "--config", self.run_dir / "config.toml", "--resume")
        self.assertEqual(status, 0, output)

    def test_a_device_this_build_does_not_have(self):
        status, output = self.aggregator("--device", "cuda")
        if "waiting for" in output:
            self.skipTest("this LibTorch has CUDA")
        self.check((status, output), 1, "--device cuda", "without CUDA", "--device cpu")

    def test_more_devices_than_files_may_be_open(self):
        kits = self.folder / "fleet"
        Fleet.provision(kits, [f"cam-{i}" for i in range(200)])
        config = kits / "aggregator/aggregator.toml"
        start = [BIN / "tandem-aggregator", "--config", config, "--endpoint", "tcp://127.0.0.1:*", "--run-dir", self.run_dir]
        limited = ["prlimit", "--nofile=256:300", *start]
        self.check(run(*limited), 1, "the device list: 200 connections need 328 open files and this process may have 300; "
                   "raise its limit (ulimit -Hn, LimitNOFILE= of a systemd unit)")
        self.check(run(*limited, "--limits", "connections=173"), 1,
                   "--limits connections: 173 connections need 301 open files and this process may have 300")

    def test_toml(self):
        config = self.folder / "a.toml"
        config.write_text('rounds = 3\nround = 4\n')
        self.check(self.aggregator("--config", config), 2, '"round"', config, 'did you mean "rounds"')
        config.write_text('rounds = "three"\n')
        self.check(self.aggregator("--config", config), 2, "rounds", config)
        config.write_text('rounds = \n')
        self.check(self.aggregator("--config", config), 2, config)
        self.check(self.aggregator("--config", self.folder / "none.toml"), 2, self.folder / "none.toml")

    def test_model_and_cut(self):
        self.check(self.aggregator("--model", "cmn"), 2, "cmn", "did you mean cnn")
        self.check(self.aggregator("--model", "resnet18:widht=8"), 2, "widht", "width")
        self.check(self.aggregator("--model", "resnet18?width=8&norm=group"), 2,
                   '"resnet18?width=8&norm=group": write resnet18:width=8,norm=group')
        self.check(self.aggregator("--model", "cnn", "--cut", "4"), 2, "cut", "4")
        self.check(self.aggregator("--model", "cnn", "--cut", "0"), 2, "cut", "0")

    def test_settings_that_fit_no_data_are_refused_before_any_device_comes(self):
        self.check(self.aggregator("--normalize", "0.1307,0.3081"), 2, '--normalize "0.1307": expected MEAN/STD')
        self.check(self.aggregator("--normalize", "0.1/0.2,0.3/x"), 2, "--normalize", "standard deviation")
        self.check(self.aggregator("--augment", "corp:2"), 2, '--augment "corp:2": unknown operation')
        self.check(self.aggregator("--input-shape", "1x8x8", "--normalize", "0.5/0.2,0.5/0.2"), 2,
                   "2 pairs MEAN/STD, expected 1 or one for each of 1 channels")
        self.check(self.aggregator("--input-shape", "1x8x8", "--augment", "crop:9"), 2, '--augment "crop:9"')
        self.check(self.aggregator("--input-shape", "20"), 2, "--model: model cnn needs images")
        self.check(self.aggregator("--eval-data", DATA, "--augment", "cutout:9"), 2, '--augment "cutout:9"')
        self.check(self.aggregator("--eval-data", DATA, "--normalize", "0.5/0.2,0.5/0.2"), 2,
                   "--normalize", "for each of 1 channels")
        self.check(self.aggregator("--model", "resnet18", "--batch-size", "1"), 2,
                   "--batch-size 1 is too small for --model resnet18", "--batch-norm freeze")
        self.check(self.aggregator("--local-steps", "500001"), 2, "local-steps must be 0..500000, got 500001")
        self.check(self.aggregator("--model", "mlp", "--cut", "1", "--edge-objective", "local:head=conv"), 2,
                   "--edge-objective: auxiliary head: conv needs activations")
        self.check(self.aggregator("--algorithm", "parallel", "--head-blocks", "3"), 2, "--head-blocks must be 0..")

    def test_a_setting_that_does_not_fit_the_first_device_ends_both(self):
        for flags, text in ((["--normalize", "0.5/0.2,0.5/0.2"], "for each of 1 channels; the shape 1x8x8 comes from device a"),
                            (["--augment", "crop:9"], '--augment "crop:9": the number of pixels')):
            folder = self.folder / flags[0].strip("-")
            folder.mkdir()
            fleet = Fleet(folder, ["a", "b"])
            self.addCleanup(fleet.close)
            aggregator = fleet.aggregator(*flags)
            edge = fleet.edge("a")
            self.assertEqual(aggregator.wait(), 2, aggregator.output)
            self.assertEqual(edge.wait(), 1, edge.output)
            self.assertIn(text, aggregator.output)
            self.assertIn(flags[0], aggregator.output.splitlines()[-1])
            self.assertIn("the run failed: " + flags[0], edge.output)
            self.assertNotIn("refuses this device", edge.output)
            # The mended flags take the same run directory.
            aggregator = fleet.aggregator("--rounds", "1")
            edges = [fleet.edge("a"), fleet.edge("b")]
            self.assertEqual(aggregator.wait(), 0, aggregator.output)
            self.assertEqual([edge.wait() for edge in edges], [0, 0])

    def test_a_class_count_that_is_given_is_checked_everywhere(self):
        training = overriding(TRAINING, ["--num-classes", "3"])
        result = run(BIN / "tandem", "simulate", "--run-dir", self.run_dir, *training, "--data", DATA)
        self.check(result, 2, "--num-classes is 3, the labels of --data need 4 classes; give --num-classes 4")
        self.check(self.aggregator("--num-classes", "3", "--eval-data", DATA), 2,
                   "--num-classes is 3, the labels of --eval-data need 4 classes")
        fleet = Fleet(self.folder, ["a"])
        self.addCleanup(fleet.close)
        aggregator = fleet.aggregator("--num-classes", "3")
        edge = fleet.edge("a")
        self.assertEqual(edge.wait(), 1, edge.output)
        self.assertIn("its labels need 4 classes, this run has 3 (from --num-classes)", edge.output)
        wait_until(lambda: "0 of 1 are here; refused: a (its labels need 4 classes" in aggregator.output,
                   "the aggregator to say whom it has refused")

    def test_devices_with_different_classes(self):
        def folder_with(name, labels):
            data = self.folder / name
            data.mkdir()
            for prefix in ("train", "t10k"):
                (data / f"{prefix}-images-idx3-ubyte").write_bytes(
                    struct.pack(">IIII", 0x803, len(labels), 8, 8) + bytes(i % 251 for i in range(64 * len(labels))))
                (data / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels))
            return data

        data = {"a": folder_with("low", [i % 3 for i in range(24)]), "b": folder_with("high", [3 + i % 3 for i in range(24)])}
        models = []
        for order in ("ab", "ba"):
            folder = self.folder / order
            folder.mkdir()
            fleet = Fleet(folder, ["a", "b"])
            self.addCleanup(fleet.close)
            aggregator = fleet.aggregator("--rounds", "1", "--num-classes", "0")
            edges = []
            for name in order:
                edges.append(fleet.start(BIN / "tandem-edge", "--config", fleet.kits / name / "edge.toml", "--endpoint",
                                         fleet.endpoint, "--data", f"idx:{data[name]}", "--threads", "1"))
                wait_until(lambda: len(fleet.metrics("join")) == len(edges), "the device to join")
            self.assertEqual(aggregator.wait(), 0, aggregator.output)
            self.assertEqual([edge.wait() for edge in edges], [0, 0])
            self.assertEqual(len(fleet.metrics("class-counts")), 1)
            self.assertIn("# num-classes = 6", (fleet.run_dir / "config.toml").read_text())
            models.append((fleet.run_dir / "model.safetensors").read_bytes())
        self.assertEqual(models[0], models[1])

    def test_a_rate_that_diverges_ends_the_run_and_is_named(self):
        training = overriding(TRAINING, ["--learning-rate", "1e10"])
        result = run(BIN / "tandem", "simulate", "--run-dir", self.run_dir, *training, "--data", DATA, "--rounds", "3")
        self.check(result, 1, "the training diverges", "--learning-rate (now 1e+10)", leaves_nothing=False)

    def test_data(self):
        missing = self.folder / "nothing"
        self.check(self.simulate("--data", f"idx:{missing}"), 1, missing)
        self.check(self.simulate("--data", "idy:/tmp"), 2, "idy", "idx")
        self.check(self.simulate("--data", "synthetic:images,exampels=3"), 2, "exampels", "examples")
        self.check(self.simulate("--data", f"idx:{missing}?classes=3"), 2,
                   f'"idx:{missing}?classes=3": write idx:{missing},classes=3')
        self.check(self.simulate(), 2, "--data is missing")
        self.check(self.simulate("--data", DATA, "--partition", "dirichlet:-1"), 2, "dirichlet")
        self.check(self.simulate("--data", DATA, "--augment", "corp:2"), 2, "corp", "crop")
        self.check(run(BIN / "tandem-edge", "--insecure", "--name", "x", "--data", DATA, "--shard", "4/4"), 2, "--shard I/N", "from 0 to 3", 'got "4"')

    def write_idx(self, images=20, shown=20, compressed=False):
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        opener = (lambda p: gzip.open(str(p) + ".gz", "wb")) if compressed else (lambda p: open(p, "wb"))
        for prefix in ("train", "t10k"):
            with opener(data / f"{prefix}-images-idx3-ubyte") as f:
                f.write(struct.pack(">IIII", 0x803, images, 8, 8) + bytes(shown * 64))
            with opener(data / f"{prefix}-labels-idx1-ubyte") as f:
                f.write(struct.pack(">II", 0x801, images) + bytes([i % 4 for i in range(images)]))
        return data

    def test_truncated_data_files(self):
        for compressed in (False, True):
            data = self.write_idx(images=20, shown=19, compressed=compressed)
            self.check(self.simulate("--data", f"idx:{data}"), 1, "train-images-idx3-ubyte", "1,216", "1,280")
            shutil.rmtree(data)
        data = self.write_idx()
        self.check(self.simulate("--data", f"idx:{data}", "--rounds", "1"), 0, leaves_nothing=False)

    def test_a_damaged_weight_file(self):
        weights = self.folder / "weights.safetensors"
        weights.write_bytes(b"\xff" * 100)
        self.check(self.simulate("--data", DATA, "--init", weights), 1, weights)
        self.check(self.simulate("--data", DATA, "--init", self.folder / "none.safetensors"), 1, "none.safetensors")

    def test_a_run_directory_that_holds_a_run_is_not_overwritten(self):
        self.check(self.simulate("--data", DATA, "--rounds", "1"), 0, leaves_nothing=False)
        before = (self.run_dir / "summary.json").read_bytes()
        self.check(self.simulate("--data", DATA), 2, "already holds a run", "--run-dir", leaves_nothing=False)
        self.assertEqual((self.run_dir / "summary.json").read_bytes(), before)

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run(BIN / "tandem-aggregator", "--insecure", "--endpoint", f"tcp://127.0.0.1:{port}",
                         "--run-dir", self.run_dir)
        self.check(result, 1, f"tcp://127.0.0.1:{port}", "in use", "--endpoint")

    def test_endpoints(self):
        edge = [BIN / "tandem-edge", "--insecure", "--name", "cam", "--data", DATA]
        aggregator = [BIN / "tandem-aggregator", "--insecure", "--run-dir", self.run_dir]
        provision = [BIN / "tandem", "provision", "--out", self.run_dir, "--device", "cam"]
        for command, flag, value, reason in (
            (edge, "--endpoint", "tcp://host:99999", "port 99999 does not exist"),
            (edge, "--endpoint", "http://host:5555", "is not \"tcp://\""),
            (edge, "--endpoint", "tcp://*:5555", "is an address to listen on"),
            (edge, "--endpoint", "tcp://host:0", "port 0 does not exist"),
            (edge, "--endpoint", "tcp://::1:5555", "in brackets"),
            (aggregator, "--endpoint", "tcp://::1:5555", "in brackets"),
            (aggregator, "--endpoint", "tcp://127.0.0.1", "the port is missing"),
            (aggregator, "--endpoint", "tcp://:5555", "the host is missing"),
            (aggregator, "--status-endpoint", "::1:9100", "in brackets"),
            (provision, "--endpoint", "tcp://host:99999", "port 99999 does not exist"),
            (provision, "--endpoint", "*", "\"tcp://\" is missing"),
            (provision, "--listen", "tcp://aggregator.example.org:5555", "nor a network interface"),
        ):
            with self.subTest(flag=flag, value=value):
                self.check(run(*command, flag, value), 2, f'{flag} "{value}"', reason)
        config = self.folder / "edge.toml"
        config.write_text('endpoint = "tcp://host name:5555"\n')
        self.check(run(*edge, "--config", config), 2, "--endpoint", "white space")

    def test_an_ipv6_address_of_another_machine_is_not_listened_on(self):
        Fleet.provision(self.folder / "fleet", ["cam"])
        self.check(run(BIN / "tandem-aggregator", "--config", self.folder / "fleet/aggregator/aggregator.toml", "--endpoint",
                       "tcp://[2001:db8::1]:5555", "--run-dir", self.run_dir), 1,
                   "cannot listen on tcp://[2001:db8::1]:5555", "this machine's own", leaves_nothing=False)

    def test_insecure_is_for_loopback_only(self):
        self.check(run(BIN / "tandem-aggregator", "--insecure", "--endpoint", "tcp://0.0.0.0:5599", "--run-dir",
                       self.run_dir), 2, "without encryption", "loopback only", "0.0.0.0:5599")

    def test_keys(self):
        fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(fleet.close)
        key = fleet.kits / "cam/device.key"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        edge = [BIN / "tandem-edge", "--config", fleet.kits / "cam/edge.toml", "--data", DATA]
        key.chmod(0o644)
        self.check(run(*edge), 2, key, "0644", "chmod 600")
        key.chmod(0o600)
        text = key.read_text()
        key.write_text(text[: len(text) // 2])
        self.check(run(*edge), 2, key)
        key.unlink()
        self.check(run(*edge), 1, key)
        self.check(run(BIN / "tandem-edge", "--data", DATA), 2, "--key-file", "tandem provision")
        self.check(run(BIN / "tandem-aggregator", "--run-dir", self.run_dir), 2, "--key-file", "tandem provision")

    def test_an_unlisted_key_is_refused_and_named(self):
        fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(fleet.close)
        strangers = self.folder / "strangers"
        Fleet.provision(strangers, ["cam"])
        # The stranger knows the server's public key, yet its own is not listed.
        server_line = [l for l in (fleet.kits / "cam/edge.toml").read_text().splitlines() if "server-key" in l][0]
        toml = strangers / "cam/edge.toml"
        toml.write_text("\n".join(server_line if "server-key" in l else l for l in toml.read_text().splitlines()))
        aggregator = fleet.aggregator("--rounds", "1")
        stranger = fleet.edge("cam", kits=strangers)
        self.assertEqual(stranger.wait(30), 1, stranger.output)
        self.assertIn("refused this device's key", stranger.output)
        public = [l.split('"')[1] for l in (strangers / "cam/device.key").read_text().splitlines() if l.startswith("public")][0]
        wait_until(lambda: public in aggregator.output, "the refused key in the aggregator's log")
        self.assertEqual(fleet.metrics("join"), [])
        honest = fleet.edge("cam")
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        self.assertEqual(honest.wait(), 0, honest.output)

    def test_an_edge_pinned_to_another_server_key_refuses(self):
        fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(fleet.close)
        others = self.folder / "others"
        Fleet.provision(others, ["cam"])
        fleet.aggregator("--rounds", "1")
        edge = fleet.edge("cam", kits=others)
        self.assertEqual(edge.wait(60), 1, edge.output)
        self.assertIn("key", edge.output)
        self.assertEqual(fleet.metrics("join"), [])

    def test_a_read_only_run_directory(self):
        if os.geteuid() == 0:
            self.check(run(BIN / "tandem", "simulate", "--data", DATA, "--run-dir", "/proc/nothing"), 1, "/proc/nothing")
        else:
            self.folder.chmod(0o500)
            self.check(self.simulate("--data", DATA), 1, self.run_dir)


if __name__ == "__main__":
    unittest.main()
