#!/usr/bin/python3
"""What an operator relies on: the status endpoint of both programs, JSON logs, signals."""
import json
import pathlib
import re
import signal
import socket
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from processes import BIN, DATA, TRAINING, Fleet, run, wait_until

ENDLESS = ["--rounds", "1000000", "--local-steps", "50"]
LINE_OF_METRICS = re.compile(r'^([a-zA-Z_][a-zA-Z0-9_]*)(\{[^}]*\})? (\S+)$')


def ask(endpoint, path, method="GET"):
    """The status and the text of an answer; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{endpoint}{path}", method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def metrics_of(endpoint):
    """Figures by name and labels, each line checked."""
    status, text = ask(endpoint, "/metrics")
    assert status == 200, (status, text)
    figures, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            found = LINE_OF_METRICS.match(line)
            assert found and found.group(1) in typed, line
            figures[found.group(1) + (found.group(2) or "")] = float(found.group(3))
    return figures


class OperationsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def fleet(self, devices):
        fleet = Fleet(self.folder, devices)
        self.addCleanup(fleet.close)
        return fleet

    def status_flags(self, name, *parameters):
        return ["--status-endpoint", ",".join(["127.0.0.1:*", f"file={self.folder / name}.status", *parameters])]

    def status_endpoint(self, name):
        path = self.folder / f"{name}.status"
        wait_until(path.exists, f"{name}'s status endpoint")
        return path.read_text().strip()

    def test_readiness_flips_with_the_clients_and_metrics_grow(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator(*ENDLESS, "--min-clients", "2", "--eval-data", DATA, *self.status_flags("aggregator"))
        endpoint = self.status_endpoint("aggregator")
        self.assertEqual(ask(endpoint, "/healthz"), (200, "alive\n"))
        wait_until(lambda: ask(endpoint, "/readyz")[1] != "the program is starting\n", "the aggregator to wait for clients")
        self.assertEqual(ask(endpoint, "/readyz"), (503, "waiting for clients: 0 of 2 are there\n"))
        self.assertEqual(metrics_of(endpoint)["tandem_clients_present"], 0)

        edges = [fleet.edge(device, *self.status_flags(device)) for device in fleet.devices]
        wait_until(lambda: metrics_of(endpoint).get("tandem_rounds_completed"), "a complete round")
        self.assertEqual(ask(endpoint, "/readyz"), (200, "ready\n"))
        first = metrics_of(endpoint)
        wait_until(lambda: metrics_of(endpoint)["tandem_rounds_completed"] > first["tandem_rounds_completed"], "another")
        second = metrics_of(endpoint)
        for name in ("tandem_steps_total", "tandem_examples_total", "tandem_bytes_up_total", "tandem_bytes_down_total",
                     "process_cpu_seconds_total"):
            self.assertGreater(second[name], first[name], name)
        self.assertEqual(second["tandem_clients_present"], 2)
        self.assertEqual(second['tandem_events_total{event="join"}'], 2)
        self.assertEqual(second["tandem_rounds_planned"], 1000000)
        self.assertGreater(second["process_resident_memory_bytes"], 20e6)
        self.assertLess(abs(second["process_start_time_seconds"] - time.time()), 300)
        for name in ("tandem_accuracy", "tandem_eval_accuracy"):
            self.assertTrue(0 <= second[name] <= 1, name)
        self.assertGreater(second["tandem_loss"], 0)
        self.assertGreater(second["tandem_checkpoint_seconds"], 0)
        self.assertTrue(any(name.startswith('tandem_build_info{program="tandem-aggregator"') for name in second))

        at_edge = self.status_endpoint("client-1")
        self.assertEqual(ask(at_edge, "/readyz"), (200, "ready\n"))
        self.assertEqual(ask(at_edge, "/healthz"), (200, "alive\n"))
        figures = metrics_of(at_edge)
        self.assertEqual(figures["tandem_connections_total"], 1)
        wait_until(lambda: metrics_of(at_edge)["tandem_steps_total"] > figures["tandem_steps_total"], "the edge to step")

        edges[1].stop(signal.SIGTERM)
        wait_until(lambda: ask(endpoint, "/readyz")[0] == 503, "the aggregator to miss a client")
        self.assertEqual(ask(endpoint, "/readyz")[1], "waiting for clients: 1 of 2 are there\n")
        self.assertEqual(metrics_of(endpoint)['tandem_events_total{event="leave"}'], 1)
        aggregator.stop(signal.SIGKILL)
        wait_until(lambda: ask(at_edge, "/readyz")[0] == 503, "the edge to lose the aggregator")
        self.assertEqual(ask(at_edge, "/readyz")[1], "not connected to the aggregator\n")
        self.assertEqual(ask(at_edge, "/healthz")[0], 200)

    def test_steps_and_examples_are_counted_once(self):
        fleet = self.fleet(["client-1"])
        fleet.aggregator(*ENDLESS, *self.status_flags("aggregator"))
        endpoint = self.status_endpoint("aggregator")
        edge = fleet.edge("client-1")
        wait_until(lambda: len(fleet.metrics("round")) >= 3, "three rounds")
        edge.stop(signal.SIGTERM)
        edge.wait()
        wait_until(lambda: metrics_of(endpoint)["tandem_clients_present"] == 0, "the client to be gone")
        figures = metrics_of(endpoint)
        done = fleet.metrics("round")
        self.assertEqual(figures["tandem_rounds_completed"], len(done))
        # What was applied of a round that the client left half-way counts too.
        for name, of_rounds, most in (("steps", sum(line["steps"] for line in done), 50),
                                      ("examples", sum(line["examples"] for line in done), 50 * 16)):
            self.assertGreaterEqual(figures[f"tandem_{name}_total"], of_rounds, name)
            self.assertLess(figures[f"tandem_{name}_total"], of_rounds + most, name)

    def test_a_stopped_main_loop_is_told_from_a_living_one(self):
        fleet = self.fleet(["client-1"])
        # One evaluation of the merged model, long compared with stall-after; a main loop that waits beats every 0.2 s.
        aggregator = fleet.aggregator("--rounds", "1", "--eval-data", "synthetic:images,test-examples=400000,classes=4,size=8",
                                      *self.status_flags("aggregator", "stall-after=500ms"))
        endpoint = self.status_endpoint("aggregator")
        wait_until(lambda: ask(endpoint, "/healthz")[0] == 200, "the aggregator to wait for clients")
        fleet.edge("client-1")
        wait_until(lambda: "join client-1" in aggregator.output, "the edge to join")
        answer = wait_until(lambda: (lambda got: got if got[0] == 503 else None)(ask(endpoint, "/healthz")),
                            "a main loop that is busy for longer than stall-after")
        self.assertRegex(answer[1], r"^the main loop has shown no sign of life for \d+\.\d s, allowed are 0\.5 s "
                                    r"\(stall-after of --status-endpoint\)\n$")

    def test_other_paths_and_methods_get_nothing(self):
        fleet = self.fleet(["client-1"])
        fleet.aggregator(*ENDLESS, *self.status_flags("aggregator"))
        endpoint = self.status_endpoint("aggregator")
        for path in ("/", "/metrics/", "/../../etc/passwd", "/healthz/../../etc/passwd", "/%2e%2e/etc/passwd"):
            self.assertEqual(ask(endpoint, path), (404, "there are /healthz, /readyz and /metrics\n"), path)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            self.assertEqual(ask(endpoint, "/metrics", method), (405, "only GET and HEAD\n"), method)

    def test_a_bad_status_endpoint_says_what_to_do(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for value, status, parts in (
                ("0.0.0.0:9100", 2, ("--status-endpoint", "0.0.0.0:9100", "not a loopback address", "proxy")),
                ("example.org:9100", 2, ("not a loopback address",)),
                ("9100", 2, ("ADDRESS:PORT", "127.0.0.1:9100")),
                ("127.0.0.1:70000", 2, ("127.0.0.1:70000", "0 to 65535")),
                (f"127.0.0.1:{port}", 1, (f"127.0.0.1:{port}", "Address already in use")),
            ):
                for program in ("tandem-aggregator", "tandem-edge"):
                    with self.subTest(value=value, program=program):
                        command = [BIN / program, "--insecure", "--status-endpoint", value]
                        command += (["--run-dir", self.folder / "run", "--endpoint", "tcp://127.0.0.1:*"]
                                    if program == "tandem-aggregator" else ["--data", DATA, "--name", "cam"])
                        done = run(*command, timeout=60)
                        self.assertEqual(done.returncode, status, done.stderr)
                        for part in parts:
                            self.assertIn(part, done.stderr)
                        self.assertFalse((self.folder / "run/metrics.jsonl").exists())

    def test_every_line_of_a_json_log_is_an_object(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator("--rounds", "2", "--log-format", "json", *self.status_flags("aggregator"))
        edges = [fleet.edge(device, "--log-format", "json") for device in fleet.devices]
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        for edge in edges:
            self.assertEqual(edge.wait(), 0, edge.output)
        lines = [json.loads(line) for line in aggregator.lines]
        for line in lines + [json.loads(line) for edge in edges for line in edge.lines]:
            self.assertEqual(list(line)[:4], ["time", "level", "program", "message"])
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual({line["program"] for line in lines}, {"tandem-aggregator"})
        joins = [line for line in lines if line.get("event") == "join"]
        self.assertEqual(sorted(line["client"] for line in joins), fleet.devices)
        self.assertIn("examples", joins[0]["detail"])
        rounds = [line for line in lines if line.get("event") == "round"]
        self.assertEqual([line["round"] for line in rounds], [1, 2])
        self.assertEqual(rounds[0]["examples"], 240)
        self.assertIsNone(rounds[0]["eval_accuracy"])
        (summary,) = [line for line in lines if line.get("event") == "summary"]
        self.assertEqual((summary["status"], summary["rounds"]), ("completed", 2))
        self.assertEqual(summary["report"], str(fleet.run_dir / "report.html"))

    def test_warnings_and_errors_are_objects_too(self):
        fleet = self.fleet(["client-1"])
        others = self.folder / "others"
        Fleet.provision(others, ["client-1"])
        aggregator = fleet.aggregator(*ENDLESS, "--log-format", "json")
        stranger = fleet.edge("client-1", "--log-format", "json", kits=others)
        self.assertEqual(stranger.wait(60), 1, stranger.output)
        last = json.loads(stranger.lines[-1])
        self.assertEqual((last["level"], last["program"]), ("error", "tandem-edge"))
        aggregator.stop(signal.SIGTERM)
        self.assertEqual(aggregator.wait(), 130, aggregator.output)
        for line in aggregator.lines:
            json.loads(line)
        done = run(BIN / "tandem", "simulate", "--log-format", "json", "--data", 'idx:/no"where', "--run-dir",
                   self.folder / "simulated", timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        (line,) = done.stderr.splitlines()
        self.assertIn('/no"where', json.loads(line)["message"])

    def test_the_simulator_logs_json_and_quiet_leaves_the_summary(self):
        command = [BIN / "tandem", "simulate", "--clients", "2", "--data", DATA, *TRAINING, "--rounds", "1", "--quiet",
                   "--log-format", "json", "--run-dir", self.folder / "simulated"]
        done = run(*command, timeout=60, check=True)
        self.assertEqual(done.stderr, "")
        self.assertEqual(json.loads(done.stdout)["event"], "summary")

    def test_a_report_is_written_again_on_request(self):
        run_dir = self.folder / "simulated"
        run(BIN / "tandem", "simulate", "--data", DATA, *TRAINING, "--rounds", "1", "--quiet", "--run-dir", run_dir,
            timeout=60, check=True)
        (run_dir / "report.html").unlink()
        done = run(BIN / "tandem", "report", run_dir, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, f"report: {run_dir}/report.html\n"), done.stderr)
        self.assertIn("<html", (run_dir / "report.html").read_text())

    def test_sigterm_finishes_the_step_and_leaves(self):
        fleet = self.fleet(["client-1", "client-2"])
        aggregator = fleet.aggregator(*ENDLESS)
        edges = [fleet.edge(device) for device in fleet.devices]
        wait_until(lambda: fleet.metrics("round"), "the first round")
        edges[0].stop(signal.SIGTERM)
        self.assertEqual(edges[0].wait(5), 130, edges[0].output)
        wait_until(lambda: fleet.metrics("leave"), "the aggregator to hear of it")
        self.assertEqual(fleet.metrics("leave")[0]["detail"], "interrupted")
        aggregator.stop(signal.SIGTERM)
        self.assertEqual(aggregator.wait(5), 130, aggregator.output)
        self.assertEqual(fleet.summary()["status"], "interrupted")
        self.assertEqual(fleet.summary()["rounds"], len(fleet.metrics("round")))

    def test_sigterm_while_waiting_leaves_at_once(self):
        fleet = self.fleet(["client-1"])
        aggregator = fleet.aggregator(*ENDLESS)
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = "tcp://127.0.0.1:%d" % free.getsockname()[1]
        edge = fleet.edge("client-1", endpoint=nobody)
        wait_until(lambda: "connecting to" in edge.output, "the edge to start")
        for program in (edge, aggregator):
            program.stop(signal.SIGTERM)
            self.assertEqual(program.wait(5), 130, program.output)

    def test_a_second_signal_ends_the_program_at_once(self):
        fleet = self.fleet(["client-1"])
        # An evaluation that takes far longer than this test waits.
        aggregator = fleet.aggregator("--rounds", "1", "--model", "resnet18", "--local-steps", "1", "--eval-data",
                                      "synthetic:images,test-examples=100000,classes=4,size=8",
                                      *self.status_flags("aggregator", "stall-after=500ms"))
        endpoint = self.status_endpoint("aggregator")
        fleet.edge("client-1")
        wait_until(lambda: metrics_of(endpoint)["tandem_steps_total"] == 1 and ask(endpoint, "/healthz")[0] == 503,
                   "the evaluation", 60)
        aggregator.stop(signal.SIGTERM)
        with self.assertRaises(AssertionError):
            aggregator.wait(0.5)  # the first one lets it finish what it does
        aggregator.stop(signal.SIGINT)
        self.assertEqual(aggregator.wait(2), 130, aggregator.output)

    def test_a_hangup_is_ignored(self):
        fleet = self.fleet(["client-1"])
        aggregator = fleet.aggregator(*ENDLESS)
        edge = fleet.edge("client-1")
        wait_until(lambda: fleet.metrics("round"), "the first round")
        for program in (aggregator, edge):
            program.stop(signal.SIGHUP)
        before = len(fleet.metrics("round"))
        wait_until(lambda: len(fleet.metrics("round")) > before + 1, "rounds after the hang-up")
        edge.stop(signal.SIGTERM)
        self.assertEqual(edge.wait(5), 130, edge.output)

    def test_a_connection_that_is_held_open_delays_neither_others_for_long_nor_the_end(self):
        fleet = self.fleet(["client-1"])
        aggregator = fleet.aggregator(*ENDLESS, *self.status_flags("aggregator"))
        endpoint = self.status_endpoint("aggregator")
        host, port = endpoint.rsplit(":", 1)
        with socket.create_connection((host, int(port))):
            started = time.monotonic()
            self.assertEqual(ask(endpoint, "/healthz")[0], 200)
            self.assertLess(time.monotonic() - started, 5)
        idle = [socket.create_connection((host, int(port))) for _ in range(3)]
        aggregator.stop(signal.SIGTERM)
        self.assertEqual(aggregator.wait(5), 130, aggregator.output)
        for connection in idle:
            connection.close()


if __name__ == "__main__":
    unittest.main()
