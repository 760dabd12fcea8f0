#!/usr/bin/python3
"""README's first deployment, an aggregator and several edges, on one machine with few cores: the programs as they are
without --threads, against every setting a person could choose.

    tests/bench/few_cores.py [--edges 2 3] [--pairs 5] [--rounds 6] [--steps 16] [--beside 0]

Each pair runs the default and every setting in random order, one after the other, and gives one ratio of the times of
their rounds (without the first); printed is the median over the pairs. Fails when the default takes more than 1.2 times
as long as the best setting. --beside N runs the same beside N programs that do nothing but compute.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
DATA = f"idx:{FASHION}" if FASHION.exists() else "synthetic:images,examples=12000"
BOUND = 1.2
DEFAULT = "default"
# What libgomp does when nothing is set: 300,000 turns, about a millisecond, and then it sleeps.
SPINS = {"GOMP_SPINCOUNT": "300000"}
SETTINGS = {
    DEFAULT: ([], {}),
    "--threads 1": (["--threads", "1"], {}),
    "--threads 1, spinning": (["--threads", "1"], SPINS),
    "--threads 2, passive": (["--threads", "2"], {"OMP_WAIT_POLICY": "PASSIVE"}),
    "--threads 2, spinning": (["--threads", "2"], SPINS),
    "--threads 2, active": (["--threads", "2"], {"OMP_WAIT_POLICY": "ACTIVE"}),
}


def environment(variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    return {**kept, **variables}


class Deployment:
    """Kits and configuration for an aggregator and its edges, run as often as one likes."""

    def __init__(self, folder, edges, options):
        self.folder = folder
        self.edges = edges
        self.options = options
        self.last_log = ""
        devices = [argument for i in range(edges) for argument in ("--device", f"cam-{i + 1}")]
        subprocess.run([BIN / "tandem", "provision", "--out", folder / "fleet", "--endpoint", "tcp://127.0.0.1:5555",
                        *devices], check=True, stdout=subprocess.DEVNULL)

    def seconds(self, flags, variables, patience):
        """The time of all rounds but the first; infinity when the run was not complete after `patience` seconds, or
        when an edge was so slow that a round went on without it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as run:
            run = pathlib.Path(run)
            programs = []
            try:
                with open(run / "log", "w", encoding="utf-8") as log:
                    self._start(programs, run, log, flags, environment(variables))
                    try:
                        status = programs[0].wait(patience)
                    except subprocess.TimeoutExpired:
                        return float("inf")
            finally:
                for program in programs:
                    program.kill()
                    program.wait()
            lines = []
            if (run / "run/metrics.jsonl").exists():
                lines = [json.loads(line) for line in (run / "run/metrics.jsonl").read_text().splitlines()]
            rounds = [line for line in lines if line["event"] == "round"]
            if status != 0 or len(rounds) != self.options.rounds or any(r["clients"] != self.edges for r in rounds):
                self.last_log = (run / "log").read_text()
                return float("inf")
            return sum(line["seconds"] for line in rounds[1:])

    def _start(self, programs, run, log, flags, env):
        def start(*arguments):
            programs.append(subprocess.Popen([str(a) for a in arguments], stdout=log, stderr=log, env=env))

        endpoint_file = run / "endpoint"
        start(BIN / "tandem-aggregator", "--config", self.folder / "fleet/aggregator/aggregator.toml", "--endpoint",
              "tcp://127.0.0.1:*", "--endpoint-file", endpoint_file, "--model", "cnn", "--cut", "2", "--clients",
              self.edges, "--rounds", self.options.rounds, "--local-steps", self.options.steps, "--augment",
              "crop:2,flip", "--run-dir", run / "run", *flags)
        while not endpoint_file.exists():
            if programs[0].poll() is not None:
                return
            time.sleep(0.02)
        for i in range(self.edges):
            start(BIN / "tandem-edge", "--config", self.folder / f"fleet/cam-{i + 1}/edge.toml", "--endpoint",
                  endpoint_file.read_text().strip(), "--data", DATA, "--shard", f"{i}/{self.edges}", *flags)


def compare(edges, options):
    """The default's median ratio to the best setting."""
    times = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(pathlib.Path(folder), edges, options)
        began = time.monotonic()
        if deployment.seconds(*SETTINGS[DEFAULT], 600) == float("inf"):
            raise SystemExit(f"the default did not get through:\n{deployment.last_log}")
        # Who spins against everybody else need not be watched to the end, nor again.
        patience = 10 + 4 * (time.monotonic() - began)
        for _ in range(options.pairs):
            names = list(SETTINGS)
            random.shuffle(names)
            for name in names:
                hopeless = name != DEFAULT and float("inf") in times[name]
                times[name].append(float("inf") if hopeless else deployment.seconds(*SETTINGS[name], patience))
            if float("inf") in times[DEFAULT]:
                raise SystemExit(f"the default did not get through:\n{deployment.last_log}")
    worst = 0.0
    print(f"an aggregator and {edges} edges, {options.rounds - 1} rounds of {options.steps} steps, "
          f"{len(os.sched_getaffinity(0))} cores, {options.beside} other programs, {options.pairs} pairs:")
    for name in SETTINGS:
        ratios = [default / other for default, other in zip(times[DEFAULT], times[name])]
        ratio = statistics.median(ratios)
        worst = max(worst, ratio)
        print(f"  {name:24} {statistics.median(times[name]):7.2f} s   default takes {ratio:5.2f} times as long "
              f"({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"  default against the best setting: {worst:.2f}, at most {BOUND}", flush=True)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--beside", type=int, default=0, help="programs that compute meanwhile")
    options = parser.parse_args()
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.beside)]
    try:
        worst = max([compare(edges, options) for edges in options.edges])
    finally:
        for other in others:
            other.kill()
            other.wait()
    sys.exit(0 if worst <= BOUND else 1)


if __name__ == "__main__":
    main()
