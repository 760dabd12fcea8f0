#!/usr/bin/python3
"""A tandem-aggregator that trains with listed edges, without and under each of four attacks.

    tests/bench/attacks.py [--edges 4] [--seconds 6] [--frame-mib N]

Prints for each attack how much the aggregator's resident memory grew beyond its highest without, and the mean time of
a step against that without; fails when one is beyond 64 MiB or 1.5 times. The attackers run on this machine, with the
lowest priority: their computing is not the aggregator's. Quiet times lie between the attacks.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()
DATA = "synthetic:images,examples=8000"
STEPS = 20
MEMORY_BOUND_MIB = 64
TIME_BOUND = 1.5


def key_of(path):
    lines = pathlib.Path(path).read_text().splitlines()
    return {line.split(" = ")[0]: line.split('"')[1] for line in lines if " = " in line}


class Memory:
    """Highest resident memory of a process since the last take(), MiB."""

    def __init__(self, pid):
        self.statm = f"/proc/{pid}/statm"
        self.highest = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self):
        while not self.stop.wait(0.005):
            try:
                pages = int(pathlib.Path(self.statm).read_text().split()[1])
            except (OSError, IndexError):
                return
            self.highest = max(self.highest, pages * os.sysconf("SC_PAGESIZE") / 2**20)

    def take(self):
        highest, self.highest = self.highest, 0
        return highest


class Run:
    """An aggregator and its edges at work."""

    def __init__(self, folder, options):
        self.kits = folder / "fleet"
        devices = [f"client-{i + 1}" for i in range(options.edges)] + ["rogue"]
        subprocess.run([BIN / "tandem", "provision", "--out", self.kits, "--endpoint", "tcp://127.0.0.1:5555",
                        *(argument for device in devices for argument in ("--device", device))],
                       check=True, stdout=subprocess.DEVNULL)
        endpoint_file = folder / "endpoint"
        self.log = open(folder / "log", "w", encoding="utf-8")
        self.metrics = folder / "run/metrics.jsonl"
        self.aggregator = subprocess.Popen(
            [BIN / "tandem-aggregator", "--config", self.kits / "aggregator/aggregator.toml", "--endpoint",
             "tcp://127.0.0.1:*", "--endpoint-file", endpoint_file, "--clients", str(options.edges), "--model", "cnn",
             "--cut", "1", "--rounds", "1000000", "--local-steps", str(STEPS), "--batch-size", "64", "--threads", "1",
             *(["--limits", f"frame-mib={options.frame_mib}"] if options.frame_mib else []), "--run-dir", folder / "run", "--quiet"],
            stdout=self.log, stderr=self.log)
        while not endpoint_file.exists():
            if self.aggregator.poll() is not None:
                raise SystemExit(f"the aggregator did not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        self.endpoint = endpoint_file.read_text().strip()
        self.edges = subprocess.Popen(
            [BIN / "many_edges", "--kits", self.kits, "--endpoint", self.endpoint, "--count", str(options.edges),
             "--data", DATA], stdout=self.log, stderr=self.log)
        self.memory = Memory(self.aggregator.pid)

    def lines(self, event):
        text = self.metrics.read_text() if self.metrics.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]

    def measure(self, seconds):
        """Highest memory and mean seconds of a step, in rounds that lie within the time."""
        first = len(self.lines("round")) + 1  # the one under way began before
        self.memory.take()
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self.lines("round")) < first + 3:
            if self.aggregator.poll() is not None or time.monotonic() > end + 60:
                raise SystemExit("the run does not go on")
            time.sleep(0.05)
        rounds = self.lines("round")[first:]
        return self.memory.take(), sum(line["seconds"] for line in rounds) / len(rounds) / STEPS

    def close(self):
        for process in (self.edges, self.aggregator):
            process.terminate()
            process.wait(20)
        self.log.close()


def attacks_on(run):
    port = run.endpoint.rsplit(":", 1)[1]
    server = key_of(run.kits / "aggregator/aggregator.key")["public"]
    rogue = key_of(run.kits / "rogue/device.key")
    return {
        "half-open handshakes": ["half-open", port],
        "giant handshake frames": ["giant-frame", port],
        "a listed client's endless message": ["endless", port, server, rogue["public"], rogue["secret"]],
        "a flood from an unlisted key": ["unlisted", port, server],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6, help="of each attack, and of each quiet time")
    parser.add_argument("--frame-mib", type=int, default=0, help="of the aggregator; 0: its default")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        run = Run(pathlib.Path(folder), options)
        try:
            run.measure(options.seconds)  # warm-up
            memory, before = run.measure(options.seconds)
            print(f"without: {memory:.0f} MiB, {before * 1000:.1f} ms a step", flush=True)
            for name, arguments in attacks_on(run).items():
                attack = subprocess.Popen([BIN / "attack", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          text=True, preexec_fn=lambda: os.nice(19))
                peak, attacked = run.measure(options.seconds)
                did = attack.communicate("")[0].strip()
                _, after = run.measure(options.seconds)
                grown, times = peak - memory, attacked / ((before + after) / 2)
                before = after
                verdict = "" if grown < MEMORY_BOUND_MIB and times < TIME_BOUND else "  <- BEYOND THE BOUND"
                good = good and not verdict
                print(f"{name:34}: {grown:+6.1f} MiB ({peak / memory:.2f} times), {attacked * 1000:5.1f} ms a step "
                      f"({times:.2f} times); {did}{verdict}", flush=True)
            lost = [line for line in run.lines("missed-step") + run.lines("leave")]
            print(f"listed clients that missed a step or left: {len(lost)}")
            good = good and not lost
        finally:
            run.close()
        if not good:
            print((pathlib.Path(folder) / "log").read_text()[-3000:], file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
