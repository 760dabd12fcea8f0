#!/usr/bin/python3
"""Trains with one device behind a slow link and all flags that matter left out, and compares what crossed the network
with the formula. Exits with 1 where the slow device was not in every round, or sent more than 1.05 times as much.

    python3 tests/bench/slow_link.py [split|federated]     # TANDEM_BIN: the programs, build/release/bin
"""
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from processes import Fleet, ShapingProxy  # noqa: E402

DEVICES = ["slow", "quick"]
MOST = 1.05
# What the link carries, bytes a second each way; the data; the training.
SETTINGS = {
    "split": (256_000 // 8, "synthetic:images,examples=128,classes=10,size=28",
              ["--model", "cnn", "--cut", "2", "--rounds", "2", "--batch-size", "64", "--num-classes", "10"]),
    "federated": (8_000_000 // 8, "synthetic:images,examples=128,classes=10,size=28",
                  ["--model", "mlp:hidden=4096-668", "--algorithm", "federated", "--rounds", "3",
                   "--batch-size", "64", "--num-classes", "10"]),
}


def train(name, folder):
    bandwidth, data, flags = SETTINGS[name]
    fleet = Fleet(folder, DEVICES)
    fleet.data = data
    try:
        started = time.monotonic()
        aggregator = fleet.aggregator(*flags)
        proxy = ShapingProxy(fleet.endpoint, bandwidth=bandwidth)
        edges = [fleet.edge("slow", endpoint=proxy.endpoint), fleet.edge("quick")]
        statuses = [program.wait(3600) for program in (aggregator, *edges)]
        seconds = time.monotonic() - started
        proxy.close()
    finally:
        fleet.close()
    return report(name, fleet, statuses, seconds, "\n".join(program.output for program in (aggregator, *edges)))


def report(name, fleet, statuses, seconds, output):
    rounds = fleet.metrics("round")
    print(f"{name}: {len(rounds)} rounds in {seconds:.0f} s, statuses {statuses}", flush=True)
    good = statuses == [0, 0, 0] and fleet.summary()["lost_rounds"] == {}
    for device in DEVICES:
        records = [line for line in fleet.metrics("client") if line["client"] == device and line["examples"] > 0]
        good = good and len(records) == len(rounds) and all(line["missed_steps"] == 0 for line in records)
        for way in ("up", "down"):
            measured = sum(line[f"bytes_{way}"] for line in records)
            formula = sum(line[f"bytes_{way}_formula"] for line in records)
            ratio = measured / formula if formula else float("inf")
            print(f"  {device}: in {len(records)} rounds, {way} {measured} bytes, formula {formula}, "
                  f"{ratio:.4f} times", flush=True)
            good = good and ratio <= MOST
    if not good:
        print(output, flush=True)
    return good


def main():
    names = sys.argv[1:] or list(SETTINGS)
    good = True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            good = train(name, folder) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
