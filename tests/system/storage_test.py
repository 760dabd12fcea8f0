#!/usr/bin/python3
"""What a run leaves on the disk and goes on from: flags that were recorded, folders that move, disks that are full,
files that belong to somebody else, and descriptors that are closed."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

import processes
from processes import BIN, DATA, TRAINING, Fleet, overriding, wait_until

ENDLESS = ["--rounds", "1000000", "--local-steps", "2"]


def run(*arguments, **options):
    done = processes.run(*arguments, **options)
    return done.returncode, done.stdout + done.stderr


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class StorageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        self.run_dir = self.folder / "run"

    def simulate(self, *flags, run_dir=None, **options):
        training = overriding([*TRAINING, "--data", DATA, "--rounds", "2", "--checkpoint-steps", "5", "--clients", "2"], flags)
        return run(BIN / "tandem", "simulate", "--quiet", "--run-dir", run_dir or self.run_dir, *training, **options)

    def check(self, result, status, *texts):
        self.assertEqual(result[0], status, result[1])
        for text in texts:
            self.assertIn(str(text), result[1])
        return result[1]

    def mount(self, size):
        small = self.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], capture_output=True).returncode != 0:
            self.skipTest("this machine does not let us mount a small file system")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", small], check=True))
        return small

    @staticmethod
    def fill(folder):
        with open(folder / "filler", "wb", buffering=0) as filler:
            try:
                for size in (4096, 1):
                    while True:
                        filler.write(bytes(size))
            except OSError:
                pass

    # ---- what belongs to a run

    def test_resume_names_every_flag_of_the_run_that_differs(self):
        self.check(self.simulate(), 0)
        text = self.check(
            self.simulate("--resume", "--partition", "dirichlet:0.1", "--partition-seed", "2", "--seed", "3", "--strategy",
                          "fedprox:mu=0.1", "--data", DATA.replace("240", "300"), "--augment", "flip", "--clients", "3",
                          "--eval-data", DATA, "--hold-out", "0.5", "--learning-rate", "0.1"), 2,
            "--partition iid, now dirichlet:0.1", "--partition-seed 1, now 2", "--seed 1, now 3",
            "--strategy fedavg, now fedprox:mu=0.1", "--data ", "now synthetic:images,classes=4,examples=300,size=8",
            '--augment "", now flip', "--clients 2, now 3", '--eval-data "", now synthetic', "--hold-out 0, now 0.5",
            "--learning-rate 0.05, now 0.1", f"--config {self.run_dir}/config.toml --resume")
        for free in ("--run-dir ", "--rounds", "--quiet", "--resume false"):
            self.assertNotIn(f"{free}, now", text)

    def test_resume_compares_values_not_texts(self):
        self.check(self.simulate("--learning-rate", "0.1", "--augment", "crop:2,flip", "--partition", "dirichlet:0.5",
                                 "--strategy", "fedprox:mu=0.01"), 0)
        self.check(self.simulate("--learning-rate", "1e-1", "--augment", " crop:2, flip", "--partition", "dirichlet:5e-1",
                                 "--strategy", "fedprox:mu=1e-2", "--rounds", "3", "--resume", "--stragglers", "drop:deadline=7s",
                                 run_dir=f"{self.folder}/./x/../run"), 0)
        self.assertEqual(len([line for line in lines_of(self.run_dir / "metrics.jsonl") if line["event"] == "round"]), 3)

    def test_a_schedule_over_the_whole_run_binds_the_number_of_rounds(self):
        self.check(self.simulate("--lr-schedule", "cosine"), 0)
        self.check(self.simulate("--lr-schedule", "cosine", "--rounds", "3", "--resume"), 2, "--rounds 2, now 3")

    def test_a_specification_is_compared_with_its_defaults(self):
        self.check(self.simulate("--optimizer", "sgd", "--algorithm", "parallel"), 0)
        self.check(self.simulate("--optimizer", "sgd:clip-norm=0,momentum=0.1", "--resume", "--rounds", "3"), 2,
                   "--optimizer sgd, now sgd:clip-norm=0,momentum=0.1")
        self.check(self.simulate("--optimizer", "sgd:clip-norm=0,momentum=0e1", "--algorithm", "parallel:window=1",
                                 "--resume", "--rounds", "3"), 0)

    def test_other_threads_are_said(self):
        self.check(self.simulate(), 0)
        output = self.check(self.simulate("--resume", "--threads", "2", "--rounds", "3"), 0)
        self.assertIn("it goes on, but not to the same bits", output)

    def test_a_device_goes_on_with_its_own_data_only(self):
        fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(fleet.close)
        own = self.folder / "cam-run"
        fleet.aggregator("--rounds", "1000000", "--local-steps", "2", "--checkpoint-steps", "1")
        edge = fleet.edge("cam", "--run-dir", own)
        wait_until(lambda: list(own.glob("checkpoints/*.json")), "a checkpoint of the device")
        edge.stop(signal.SIGTERM)
        edge.wait()
        command = [BIN / "tandem-edge", "--config", fleet.kits / "cam/edge.toml", "--endpoint", fleet.endpoint, "--resume",
                   "--run-dir", own]
        self.check(run(*command, "--data", DATA.replace("240", "300"), "--shard", "0/3", "--partition-seed", "4"), 2,
                   "are of other data: ", "--shard 0/1, now 0/3", "--partition-seed 1, now 4", "examples=240",
                   "now synthetic:images,classes=4,examples=300,size=8")
        # What it recorded is enough, also from another place.
        moved = self.folder / "moved"
        own.rename(moved)
        again = fleet.start(BIN / "tandem-edge", "--config", moved / "config.toml", "--resume", "--threads", "1",
                            "--endpoint", fleet.endpoint)
        wait_until(lambda: "going on from the checkpoint" in again.output, "the device to go on", 60)
        again.stop(signal.SIGTERM)
        again.wait()
        for manifest in moved.glob("checkpoints/*.json"):
            manifest.write_text("{")
        self.check(run(BIN / "tandem-edge", "--config", moved / "config.toml", "--resume"), 2,
                   f"all checkpoints in {moved} are damaged", "not a manifest", "move the directory away to begin anew")

    # ---- where it is

    def test_what_a_run_recorded_repeats_it_from_any_folder_and_a_moved_one_is_found(self):
        work, other = self.folder / "work", self.folder / "other"
        for folder in (work, other):
            folder.mkdir()
        self.write_idx(work / "data")
        (work / "run.toml").write_text('data = "idx:data"\neval-data = "idx:data"\nrun-dir = "runs/a"\nnum-classes = 4\n'
                                       'checkpoint-steps = 2\nrounds = 2\nclients = 2\nlocal-steps = 2\nthreads = 1\n')
        self.check(run(BIN / "tandem", "simulate", "--config", "../work/run.toml", cwd=other), 0)
        model = (work / "runs/a/model.safetensors").read_bytes()
        config = work / "runs/a/config.toml"
        self.assertIn('run-dir = "."', config.read_text())
        self.assertIn(f'data = "idx:{work}/data"', config.read_text())
        self.check(run(BIN / "tandem", "simulate", "--config", "work/runs/a/config.toml", "--run-dir", "other/again",
                       cwd=self.folder), 0)
        self.assertEqual((other / "again/model.safetensors").read_bytes(), model)
        (work / "runs/a").rename(other / "moved")
        self.check(run(BIN / "tandem", "simulate", "--config", "moved/config.toml", "--resume", "--rounds", "3", cwd=other), 0)
        self.assertFalse((work / "runs/a").exists())
        rounds = [line["round"] for line in lines_of(other / "moved/metrics.jsonl") if line["event"] == "round"]
        self.assertEqual(rounds, [1, 2, 3])

    @staticmethod
    def write_idx(folder):
        folder.mkdir()
        for prefix in ("train", "t10k"):
            pixels = bytes((i * 7 + i // 64) % 256 for i in range(40 * 64))
            (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
                bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (40, 8, 8)) + pixels)
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
                bytes([0, 0, 8, 1]) + (40).to_bytes(4, "big") + bytes(i % 4 for i in range(40)))

    def test_a_tilde_is_the_home_of_the_user(self):
        environment = {**os.environ, "HOME": str(self.folder)}
        self.check(run(BIN / "tandem", "simulate", "--quiet", "--data", DATA, *TRAINING, "--rounds", "1", "--run-dir=~/at-home",
                       env=environment, cwd=self.folder), 0)
        self.assertTrue((self.folder / "at-home/summary.json").exists())
        self.check(self.simulate(run_dir="~somebody/x"), 2, "--run-dir", "only ~/")

    # ---- nothing is begun anew over results, nothing of somebody else's is overwritten

    def test_resume_begins_nothing_anew_over_a_run(self):
        self.check(self.simulate("--resume"), 0)  # where nothing is, it begins
        before = {path.name: path.read_bytes() for path in self.run_dir.iterdir() if path.is_file()}
        for manifest in self.run_dir.glob("checkpoints/*.json"):
            manifest.write_text("{")
        self.check(self.simulate("--resume"), 2, f"{self.run_dir} holds a run, and all its checkpoints are damaged",
                   "not begun anew over its results", "is passed over")
        shutil.rmtree(self.run_dir / "checkpoints")
        self.check(self.simulate("--resume"), 2, f"{self.run_dir} holds a run, and its checkpoints are gone")
        (self.run_dir / "metrics.jsonl").rename(self.folder / "metrics.jsonl")
        self.check(self.simulate("--resume"), 2, "its checkpoints are gone")
        for name in before.keys() - {"metrics.jsonl"}:
            self.assertEqual((self.run_dir / name).read_bytes(), before[name], name)
        self.check(self.simulate(), 2, "already holds a run (config.toml, summary.json, report.html, model.safetensors")

    def test_a_run_that_died_before_its_first_checkpoint_begins_again(self):
        fleet = Fleet(self.folder, ["a", "b"])
        self.addCleanup(fleet.close)
        for _ in range(2):
            aggregator = fleet.aggregator(*ENDLESS, "--resume")
            edge = fleet.edge("a")
            wait_until(lambda: fleet.metrics("join"), "a device")  # one of two: no round begins
            for program in (aggregator, edge):
                program.stop(signal.SIGKILL)
                program.wait()

    def test_files_of_somebody_else_stay_as_they_are(self):
        for name in ("config.toml", "summary.json", "report.html", "model.safetensors", "front.safetensors"):
            folder = self.folder / name.replace(".", "-")
            folder.mkdir()
            (folder / name).write_text("mine")
            for flags in ([], ["--resume"]):
                self.check(self.simulate(*flags, run_dir=folder), 2, folder, "holds a run", "anew" if "model" in name and flags else name)
            self.assertEqual((folder / name).read_text(), "mine")
            self.assertEqual([path.name for path in folder.iterdir()], [name])
        own = self.folder / "checkpoints-of-mine"
        (own / "checkpoints").mkdir(parents=True)
        (own / "checkpoints/round-best.safetensors").write_text("mine")
        self.check(self.simulate(run_dir=own), 0)
        self.assertEqual((own / "checkpoints/round-best.safetensors").read_text(), "mine")

        precious = self.folder / "aggregator.key"
        precious.write_text("secret = 1\n")
        for flags, named in ((["--endpoint-file", precious], "--endpoint-file"),
                             (["--status-endpoint", f"127.0.0.1:*,file={precious}"], "--status-endpoint file")):
            self.check(run(BIN / "tandem-aggregator", "--insecure", "--endpoint", "tcp://127.0.0.1:*", "--run-dir",
                           self.folder / "r", *flags), 2, f"{named} {precious}", "holds no address")
        edge = [BIN / "tandem-edge", "--insecure", "--name", "x", "--data", DATA]
        self.check(run(*edge, "--save-front", precious), 2, f"--save-front {precious}: there is a file already")
        device = self.folder / "device"
        device.mkdir()
        (device / "config.toml").write_text("mine")
        self.check(run(*edge, "--run-dir", device), 2, device / "config.toml", "there is a file already")
        self.assertEqual((device / "config.toml").read_text(), "mine")
        key = self.folder / "seal.key"
        self.check(run(BIN / "tandem", "seal-key", "--out", key), 0)
        self.check(self.simulate("--seal-key", key), 0)
        sealed = sorted(self.run_dir.glob("checkpoints/*.sealed"))[-1]
        self.check(run(BIN / "tandem", "unseal", "--seal-key", key, sealed, precious), 2, precious, "there is a file already")
        self.check(run(BIN / "tandem", "unseal", "--seal-key", key, sealed, self.folder / "plain"), 0)
        self.assertEqual(precious.read_text(), "secret = 1\n")

    def test_the_umask_is_honoured(self):
        for mask, expected in ((0o022, 0o644), (0o077, 0o600), (0o007, 0o660)):
            self.run_dir = self.folder / f"run-{mask}"
            self.check(self.simulate(preexec_fn=lambda mask=mask: os.umask(mask)), 0)
            for path in self.run_dir.rglob("*"):
                if path.is_file():
                    self.assertEqual(path.stat().st_mode & 0o777, expected, path)

    def test_a_run_that_recorded_nothing_leaves_nothing(self):
        fleet = Fleet(self.folder, ["a"])
        self.addCleanup(fleet.close)
        for _ in range(2):
            aggregator = fleet.aggregator("--eval-data", DATA)
            aggregator.stop(signal.SIGTERM)
            self.assertEqual(aggregator.wait(), 130, aggregator.output)
            self.assertEqual(list(fleet.run_dir.iterdir()), [])

    # ---- a full disk

    def test_a_full_disk_ends_no_training_at_the_aggregator(self):
        small = self.mount("4m")
        fleet = Fleet(self.folder, ["a", "b"])
        self.addCleanup(fleet.close)
        fleet.run_dir = small / "run"
        aggregator = fleet.aggregator(*ENDLESS, "--log-format", "json")
        edges = [fleet.edge(device) for device in fleet.devices]
        wait_until(lambda: fleet.metrics("round"), "the first round")
        wait_until(lambda: list(fleet.run_dir.glob("checkpoints/*.json")), "the first checkpoint, which follows its record")
        self.fill(small)
        events = lambda name: [line for line in map(json.loads, list(aggregator.lines)) if line.get("event") == name]
        warnings = lambda text: [line for line in map(json.loads, list(aggregator.lines))
                                 if line["level"] == "warning" and text in line["message"]]
        wait_until(lambda: warnings("not-kept"), "the warning about the checkpoint")
        wait_until(lambda: warnings("its lines wait in memory"), "the warning about the lines")
        self.assertIn("No space left on device", warnings("not-kept")[0]["message"])
        full_at = len(events("round"))
        wait_until(lambda: len(events("round")) > full_at + 20, "rounds on a full disk")
        self.assertEqual(len(warnings("not-kept")), 1)  # not at each step
        kept = list(fleet.run_dir.glob("checkpoints/*.json"))
        self.assertTrue(kept)
        for line in (fleet.run_dir / "metrics.jsonl").read_text().splitlines():
            json.loads(line)  # no half line
        (small / "filler").unlink()
        wait_until(lambda: events("kept-again"), "the disk to take checkpoints again")
        aggregator.stop(signal.SIGTERM)
        self.assertEqual(aggregator.wait(), 130, aggregator.output)
        rounds = [line["round"] for line in fleet.metrics("round")]
        self.assertEqual(rounds, list(range(1, fleet.summary()["rounds"] + 1)))
        self.assertEqual(len(fleet.metrics("not-kept")), 1)
        self.assertTrue((fleet.run_dir / "model.safetensors").exists())
        for edge in edges:
            self.assertIsNone(edge.process.poll(), edge.output)

    def test_a_full_disk_ends_no_training_at_a_device(self):
        small = self.mount("1m")
        fleet = Fleet(self.folder, ["a"])
        self.addCleanup(fleet.close)
        fleet.aggregator(*ENDLESS, "--checkpoint-steps", "1")
        edge = fleet.edge("a", "--run-dir", small / "device", "--quiet")
        wait_until(lambda: list(small.glob("device/checkpoints/*.json")), "a checkpoint of the device")
        self.fill(small)
        wait_until(lambda: "this moment cannot be kept" in edge.output, "the warning")
        full_at = len(fleet.metrics("round"))
        wait_until(lambda: len(fleet.metrics("round")) > full_at + 20, "rounds with a full disk")
        self.assertEqual(edge.output.count("this moment cannot be kept"), 1)
        self.assertIn("No space left on device", edge.output)

    def test_a_model_waits_for_room(self):
        small = self.mount("256k")
        command = [str(a) for a in (BIN / "tandem", "simulate", "--data", DATA, *TRAINING, "--rounds", "3", "--run-dir")]
        for room in (True, False):
            run_dir = small / f"run-{room}"
            program = subprocess.Popen([*command, run_dir], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            said = ""
            while "waiting for the disk" not in said:
                line = program.stderr.readline()
                self.assertNotEqual(line, "", said)
                said += line
            self.assertIn("No space left on device", said)
            if room:
                subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
            else:
                program.send_signal(signal.SIGTERM)
            output, rest = program.communicate(timeout=60)
            if room:
                self.assertEqual(program.returncode, 0, said + rest)
                rounds = [line["round"] for line in lines_of(run_dir / "metrics.jsonl") if line["event"] == "round"]
                self.assertEqual(rounds, [1, 2, 3])
                self.assertIn(f"{run_dir}/report.html", output)
                shutil.rmtree(run_dir)
                subprocess.run(["mount", "-o", "remount,size=256k", small], check=True)
            else:
                self.assertEqual(program.returncode, 1, said + rest)
                self.assertIn("No space left on device", rest)
                self.assertIn("started again with --resume", rest)
                self.assertEqual([p for p in run_dir.rglob("*") if "tmp" in p.name], [])
                self.assertEqual(len(list(run_dir.glob("checkpoints/*"))) % 2, 0)

    # ---- what a program writes to

    def test_closed_descriptors_are_opened_first(self):
        fleet = Fleet(self.folder, ["a"])
        self.addCleanup(fleet.close)
        for closed in ((0,), (1,), (2,), (0, 1, 2)):
            with self.subTest(closed=closed):
                run_dir = self.folder / f"run-{''.join(map(str, closed))}"
                # Without what makes it start itself once more, the closed ones would be seen once only.
                shell = ["env", "-u", "OMP_WAIT_POLICY", "sh", "-c", 'exec "$0" "$@" ' + " ".join(f"{descriptor}>&-" for descriptor in closed)]
                endpoint_file = self.folder / "endpoint"
                endpoint_file.unlink(missing_ok=True)
                aggregator = fleet.start(*shell, BIN / "tandem-aggregator", "--config", fleet.kits / "aggregator/aggregator.toml",
                                         "--endpoint", "tcp://127.0.0.1:*", "--endpoint-file", endpoint_file, "--run-dir",
                                         run_dir, *overriding(TRAINING, []), "--rounds", "2")
                wait_until(endpoint_file.exists, "the aggregator")
                for descriptor in closed:
                    self.assertEqual(os.readlink(f"/proc/{aggregator.process.pid}/fd/{descriptor}"), "/dev/null")
                edge = fleet.start(*shell, BIN / "tandem-edge", "--config", fleet.kits / "a/edge.toml", "--endpoint",
                                   endpoint_file.read_text().strip(), "--data", DATA, "--threads", "1")
                self.assertEqual(aggregator.wait(), 0, aggregator.output)
                self.assertEqual(edge.wait(), 0, edge.output)
                self.assertEqual([line["round"] for line in lines_of(run_dir / "metrics.jsonl") if line["event"] == "round"], [1, 2])
                json.loads((run_dir / "summary.json").read_text())

    def test_a_reader_that_is_gone_ends_nothing(self):
        for log_format in ("text", "json"):
            run_dir = self.folder / log_format
            command = [BIN / "tandem", "simulate", "--data", DATA, *TRAINING, "--rounds", "3", "--run-dir", run_dir,
                       "--log-format", log_format]
            program = subprocess.Popen([str(a) for a in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            program.stdout.close()
            program.stderr.close()
            self.assertEqual(program.wait(60), 0)
            self.assertEqual(json.loads((run_dir / "summary.json").read_text())["status"], "completed")

    def test_metrics_that_are_moved_away_go_on_in_a_new_file(self):
        fleet = Fleet(self.folder, ["a"])
        self.addCleanup(fleet.close)
        aggregator = fleet.aggregator("--rounds", "30", "--local-steps", "20", "--stragglers", "wait")
        edge = fleet.edge("a")
        wait_until(lambda: fleet.metrics("round"), "the first round")
        edge.process.send_signal(signal.SIGSTOP)  # nothing happens meanwhile
        moved = self.folder / "moved.jsonl"
        (fleet.run_dir / "metrics.jsonl").rename(moved)
        edge.process.send_signal(signal.SIGCONT)
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        self.assertIn("was moved or removed", aggregator.output)
        rounds = [line["round"] for path in (moved, fleet.run_dir / "metrics.jsonl") for line in lines_of(path)
                  if line["event"] == "round"]
        self.assertEqual(rounds, list(range(1, 31)))
        self.assertTrue((fleet.run_dir / "report.html").exists())

    def test_colours_are_for_terminals_that_want_them(self):
        def on_terminal(**environment):
            """What the program says to a terminal about a cut that does nothing."""
            near, far = os.openpty()
            command = [BIN / "tandem", "simulate", "--data", DATA, *overriding(TRAINING, ["--cut", "2"]), "--algorithm",
                       "federated", "--rounds", "1", "--run-dir", self.folder / f"run-{len(list(self.folder.iterdir()))}"]
            clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "COLORTERM")}
            program = subprocess.Popen([str(a) for a in command], stdout=subprocess.DEVNULL, stderr=far, env={**clean, **environment})
            os.close(far)
            said = b""
            while True:
                try:
                    piece = os.read(near, 4096)
                except OSError:
                    break
                if not piece:
                    break
                said += piece
            os.close(near)
            self.assertEqual(program.wait(60), 0)
            self.assertIn(b"--cut 2 does nothing", said)
            return said
        self.assertIn(b"\x1b[3", on_terminal(TERM="xterm-256color"))
        no_colour = on_terminal(TERM="xterm-256color", NO_COLOR="1")
        self.assertNotIn(b"\x1b[3", no_colour)
        self.assertNotIn(b"\x1b[", on_terminal(TERM="dumb"))
        self.assertNotIn(b"\x1b[", on_terminal())


if __name__ == "__main__":
    unittest.main()
