#!/usr/bin/python3
"""--cut auto:FROM and per-client:FROM: a run takes the cuts of the plan that `tandem plan` makes, keeps them when it is
resumed, and refuses what does not fit it."""
import json
import pathlib
import re
import signal
import tempfile
import unittest

from processes import BIN, Fleet, Program, overriding, run, wait_until

BLOCKS = ["conv1", "conv2", "fc1", "fc2", "fc3"]


def client(name, forward_ms):
    return {"name": name, "forward_ms": [forward_ms] * 5, "backward_ms": [forward_ms] * 5, "memory_bytes": 100,
            "up_bytes_per_ms": 1, "down_bytes_per_ms": 1}


def problem(*clients):
    """A device that computes for nothing holds four blocks, one that computes for long a single one: what block four
    sends is the smallest, but the device pays 100 ms for each block before it."""
    return {"blocks": [{"name": name, "memory_bytes": 1, "output_bytes": size} for name, size in zip(BLOCKS, (40, 30, 20, 10, 1))],
            "mode": "training", "server": "joined", "clients": list(clients),
            "aggregator": {"forward_ms": [1] * 5, "backward_ms": [1] * 5, "memory_bytes": 100}}


UNEQUAL = problem(client("client-1", 100), client("client-2", 0))


class PlannedCut(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "problem.json"
        self.file.write_text(json.dumps(UNEQUAL))

    def simulate(self, cut, *flags, status=0):
        work = ["--data", "synthetic:images,examples=64,classes=4,size=28", "--model", "lenet5", "--clients", "2", "--cut", cut,
                "--batch-size", "8", "--local-steps", "1", "--rounds", "1", "--checkpoint-steps", "1"]
        done = run(BIN / "tandem", "simulate", "--run-dir", self.folder / "run", *overriding(work, flags))
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def left(self, name):
        return json.loads((self.folder / "run" / name).read_text())

    def test_each_client_has_the_cut_of_the_plan(self):
        planned = json.loads(run(BIN / "tandem", "plan", self.file, "--json", check=True).stdout)
        self.assertEqual(planned["cuts"], {"client-1": 1, "client-2": 4})
        said = self.simulate(f"per-client:{self.file}")
        self.assertIn("cut client-1=1,client-2=4,*=1; where a model is cut changes what parallel learns", said)
        self.assertEqual(self.left("summary.json")["cuts"], [1, 4])
        self.assertEqual(self.left("plan.json"), {**planned, "cut": "client-1=1,client-2=4,*=1"})

    def test_auto_is_the_best_of_one_cut_for_all(self):
        planned = json.loads(run(BIN / "tandem", "plan", self.file, "--json", "--planner", "common", check=True).stdout)
        self.simulate(f"auto:{self.file}")
        self.assertEqual(planned["cuts"], {"client-1": 1, "client-2": 1})
        self.assertEqual((self.left("summary.json")["cut"], self.left("plan.json")["objective"]), (1, planned["objective"]))

    def test_a_resumed_run_keeps_its_plan(self):
        self.simulate(f"per-client:{self.file}")
        self.file.write_text(json.dumps(problem(client("client-1", 0), client("client-2", 0))))
        said = self.simulate(f"per-client:{self.file}", "--rounds", "2", "--resume")
        self.assertIn("cut client-1=1,client-2=4,*=1, as", said)
        self.assertEqual((self.left("summary.json")["rounds"], self.left("summary.json")["cuts"]), (2, [1, 4]))
        (self.folder / "run/plan.json").write_text("[]")
        self.assertIn("plan.json is damaged", self.simulate(f"per-client:{self.file}", "--rounds", "3", "--resume", status=2))

    def test_a_run_that_did_not_begin_leaves_no_plan(self):
        aggregator = Program(BIN / "tandem-aggregator", "--insecure", "--endpoint", "tcp://127.0.0.1:*", "--clients", "2", "--model",
                             "lenet5", "--cut", f"per-client:{self.file}", "--run-dir", self.folder / "run")
        self.addCleanup(aggregator.close)
        wait_until(lambda: "listening on" in aggregator.output, "the aggregator to listen")
        aggregator.stop(signal.SIGINT)
        self.assertNotEqual(aggregator.wait(), 0)
        self.assertEqual(list((self.folder / "run").glob("*.json*")), [])
        # One that was killed before its first checkpoint is planned anew.
        (self.folder / "run").mkdir(exist_ok=True)
        (self.folder / "run/plan.json").write_text(json.dumps({"cut": "3"}))
        (self.folder / "run/metrics.jsonl").touch()
        self.simulate(f"per-client:{self.file}", "--resume")
        self.assertEqual(self.left("plan.json")["cuts"], {"client-1": 1, "client-2": 4})

    def test_what_does_not_fit_the_run_is_refused(self):
        chain = self.folder / "chain.json"
        chain.write_text(json.dumps({"blocks": UNEQUAL["blocks"], "source": "a", "input_bytes": 1,
                                     "devices": [{"name": "a", "memory_bytes": 9, "forward_ms": [1] * 5}],
                                     "links": {"default": {"bytes_per_ms": 1}}}))
        tight = self.folder / "tight.json"
        tight.write_text(json.dumps({**UNEQUAL, "aggregator": {**UNEQUAL["aggregator"], "memory_bytes": 0}}))
        for cut, flags, part in (("auto", [], "auto needs what the plan is made of: auto:DIR"),
                                 ("per-client:", [], "per-client:FILE with a problem"),
                                 (f"auto:{self.folder / 'nothing.json'}", [], "nothing.json"),
                                 (f"auto:{self.folder}", [], "chain.json: kind is missing"),
                                 (f"per-client:{chain}", [], "is a chain of devices"),
                                 (f"per-client:{tight}", [], "there is no plan: "),
                                 (f"auto:{self.file}", ["--algorithm", "relay"], "there is no plan of --algorithm relay"),
                                 (f"auto:{self.file}", ["--clients", "3"], "the plan is of 2 client(s) and --clients is 3")):
            said = self.simulate(cut, *flags, status=2)
            self.assertIn("--cut: ", said)
            self.assertIn(part, said)
            self.assertFalse((self.folder / "run").exists(), said)

    def test_processes_train_by_their_profiles(self):
        quick = ["--model", "lenet5", "--batch-size", "4", "--budget", "0.2", "--largest-drift", "1000", "--num-classes", "4"]
        profiles = self.folder / "profiles"
        profiles.mkdir()
        for name in ("cam-1", "cam-2"):
            run(BIN / "tandem-edge", "profile", *quick, "--name", name, "--link", "up=5,down=20,latency=10ms", "--out",
                profiles / f"{name}.json", check=True)
        run(BIN / "tandem-aggregator", "profile", *quick, "--out", profiles / "server.json", check=True)
        work = ["--model", "lenet5", "--batch-size", "8", "--optimizer", "sgd", "--local-steps", "1", "--rounds", "1", "--cut", f"per-client:{profiles}"]
        for flags, part in ((["--batch-size", "6"], "a client has 3 examples in a step of this run"),
                            (["--model", "cnn"], "the profiles are of --model lenet5, the run has cnn"),
                            (["--optimizer", "adam"], "the profiles are of --optimizer sgd, the run has adam"),
                            (["--num-classes", "7"], "the profiles are of --num-classes 4, the run has 7"),
                            (["--input-shape", "1x20x20"], "the profiles are of --input-shape 1x28x28")):
            done = run(BIN / "tandem-aggregator", "--insecure", "--clients", "2", "--run-dir", self.folder / "refused", *overriding(work, flags))
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(part, done.stderr)
        fleet = Fleet(self.folder / "fleet-of-two", ["cam-1", "cam-2"])
        self.addCleanup(fleet.close)
        fleet.data = "synthetic:images,examples=64,classes=4,size=28"
        aggregator = fleet.aggregator(*work)
        edges = [fleet.edge(name) for name in ("cam-1", "cam-2")]
        for program in (aggregator, *edges):
            self.assertEqual(program.wait(), 0, program.output)
        plan = json.loads((fleet.run_dir / "plan.json").read_text())
        page = (fleet.run_dir / "report.html").read_text()
        self.assertTrue(f"<dt>Step as planned</dt><dd>{plan['terms']['step_ms']:.1f} ms</dd>" in page)
        self.assertTrue(re.search(r"<dt>Step as measured</dt><dd>\d+\.\d ms</dd>", page))
        for name, edge in zip(("cam-1", "cam-2"), edges):
            self.assertIn(f"joined: lenet5, blocks 0 to {plan['cuts'][name] - 1} here", edge.output)


if __name__ == "__main__":
    unittest.main()
