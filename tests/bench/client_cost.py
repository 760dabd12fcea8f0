#!/usr/bin/python3
"""What a client costs when there are many: seconds for each batch that a client brings, of 1,000 clients with joined
batches of 64 against 4 clients with joined batches of 4; and the memory of 1,000 virtual clients.

    tests/bench/client_cost.py [--pairs 5]

Both sides bring as many batches of one example. A run of one round is taken from a run of three, so that what happens
once (programs that start, data that is drawn) does not count. Each pair runs both, in random order; printed is the
median of the ratios. Fails when it is above 1.5, or when the memory of 1,000 clients of `cnn`, 10 a round, is above
1 GiB.
"""
import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()
EXAMPLES = 16_000
RATIO = 1.5
MEMORY_MIB = 1024
FEW, MANY = (4, 4), (1000, 64)


def simulate(flags):
    """Seconds and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as run:
        begin = time.monotonic()
        process = subprocess.Popen([BIN / "tandem", "simulate", "--threads", "1", "--workers", "1", "--quiet", "--run-dir",
                                    pathlib.Path(run) / "run", *map(str, flags)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit("tandem simulate failed")
        return time.monotonic() - begin, usage.ru_maxrss / 1024


def seconds_of_two_rounds(clients, batch):
    flags = ["--algorithm", "parallel", "--model", "lenet5", "--cut", 1, "--clients", clients, "--batch-size", batch,
             "--data", f"synthetic:images,examples={EXAMPLES},test-examples=10"]
    three, one = (simulate([*flags, "--rounds", rounds])[0] for rounds in (3, 1))
    return three - one


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    ratios = []
    for _ in range(pairs):
        seconds = {side: seconds_of_two_rounds(*side) for side in random.sample([FEW, MANY], 2)}
        ratios.append(seconds[MANY] / seconds[FEW])
        print(f"  {1e6 * seconds[FEW] / (2 * EXAMPLES):.0f} us a batch with 4 clients, "
              f"{1e6 * seconds[MANY] / (2 * EXAMPLES):.0f} us with 1,000: {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"a batch of one of 1,000 clients takes {ratio:.2f} times as long as one of 4, at most {RATIO}")
    worst = 0
    for algorithm in (["parallel", "--cut", 2], ["splitfed-v1", "--cut", 2], ["federated"]):
        memory = simulate(["--algorithm", *algorithm, "--model", "cnn", "--clients", 1000, "--clients-per-round", 10,
                           "--batch-size", 10, "--local-steps", 1, "--rounds", 30,
                           "--data", "synthetic:images,examples=8000,test-examples=10"])[1]
        print(f"1,000 clients of cnn, 10 a round, 30 rounds of {algorithm[0]}: {memory:.0f} MiB, at most {MEMORY_MIB}")
        worst = max(worst, memory)
    return 1 if ratio > RATIO or worst > MEMORY_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
