#!/usr/bin/python3
"""tandem plan as a person uses it: the example of docs/planning.md, profiles, the picture, exit statuses."""
import json
import pathlib
import re
import tempfile
import unittest
import xml.etree.ElementTree

from processes import BIN, run

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/planning.md"
EXAMPLE = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)


class Plan(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def plan(self, problem, *flags):
        path = self.folder / "problem.json"
        path.write_text(problem if isinstance(problem, str) else json.dumps(problem))
        return run(BIN / "tandem", "plan", path, *flags)

    def test_the_example_of_the_page(self):
        done = self.plan(EXAMPLE, "--json", "--plot", self.folder / "plan.svg")
        self.assertEqual(done.returncode, 0, done.stderr)
        plan = json.loads(done.stdout)
        # conv1 4 ms on the camera, 3 ms for 2 bytes, 2 + 1 + 2 ms on the box, whose memory holds three blocks.
        self.assertEqual((plan["status"], plan["objective"], plan["lower_bound"]), ("optimal", 12, 12))
        self.assertEqual(plan["stages"], [{"device": "camera", "first": 0, "last": 0}, {"device": "box", "first": 1, "last": 3}])
        self.assertEqual(plan["runner_up"]["objective"], 13)
        self.assertTrue(xml.etree.ElementTree.parse(self.folder / "plan.svg").getroot().tag.endswith("svg"))
        said = self.plan(EXAMPLE, "--explain").stdout
        self.assertIn("camera: blocks 0, 4.000 ms", said)

    def test_no_plan_is_status_1_and_says_why(self):
        problem = json.loads(EXAMPLE)
        problem["devices"][1]["memory_bytes"] = 1
        done = self.plan(problem, "--json")
        self.assertEqual(done.returncode, 1)
        plan = json.loads(done.stdout)
        self.assertEqual((plan["status"], plan["objective"]), ("infeasible", None))
        self.assertIn("memory", plan["reason"])

    def test_bad_input_is_status_2_and_names_the_field(self):
        problem = json.loads(EXAMPLE)
        problem["devices"][1]["forward_ms"][2] = -1
        for given, flags, part in ((problem, [], "devices[1].forward_ms[2]"), ("{", [], "JSON"),
                                   (EXAMPLE, ["--objective", "round"], "--objective"),
                                   (EXAMPLE, ["--planner", "best"], "--planner"),
                                   (EXAMPLE, ["--steps", "3"], "--steps")):
            done = self.plan(given, *flags)
            self.assertEqual(done.returncode, 2, (flags, done.stdout))
            self.assertIn(part, done.stderr)
        self.assertIn("give one problem file, or --profiles", run(BIN / "tandem", "plan").stderr)

    def test_profiles_make_a_plan(self):
        quick = ["--model", "lenet5", "--batch-size", "4", "--budget", "0.2", "--largest-drift", "1000"]
        profiles = self.folder / "profiles"
        profiles.mkdir()
        for name in ("cam-1", "cam-2"):
            run(BIN / "tandem-edge", "profile", *quick, "--name", name, "--link", "up=5,down=20,latency=10ms",
                "--out", profiles / f"{name}.json", check=True)
        done = run(BIN / "tandem", "plan", "--profiles", profiles)
        self.assertEqual(done.returncode, 2)
        self.assertIn("0 profiles of an aggregator", done.stderr)
        run(BIN / "tandem-aggregator", "profile", *quick, "--out", profiles / "server.json", check=True)
        plan = json.loads(run(BIN / "tandem", "plan", "--profiles", profiles, "--json", check=True).stdout)
        self.assertEqual((plan["status"], set(plan["cuts"])), ("optimal", {"cam-1", "cam-2"}))
        self.assertTrue(all(1 <= cut <= 4 for cut in plan["cuts"].values()))
        common = json.loads(run(BIN / "tandem", "plan", "--profiles", profiles, "--json", "--planner", "common", check=True).stdout)
        self.assertLessEqual(plan["objective"], common["objective"] * (1 + 1e-9))


if __name__ == "__main__":
    unittest.main()
