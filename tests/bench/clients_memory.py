#!/usr/bin/python3
"""Memory against the number of encrypted clients, on the aggregator and in the processes that hold the clients, the
same data shared out among them.

    tests/bench/clients_memory.py [--clients 4 40 400 1000] [--processes 4] [--algorithm parallel] [--model cnn]

Prints for each number how long it took until all had joined, the steps and their mean time, the peak resident memory
of the aggregator and of the clients' processes together, and what each further client added to the two. A joined batch
(--algorithm parallel) has --batch-size examples; without it at least 64 and as many as there are clients, so that each
has a part in every step, and the memory for that is in what a further client adds.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()


def provision(kits, clients):
    devices = [argument for i in range(clients) for argument in ("--device", f"client-{i + 1}")]
    subprocess.run([BIN / "tandem", "provision", "--out", kits, "--endpoint", "tcp://127.0.0.1:5555", *devices],
                   check=True, stdout=subprocess.DEVNULL)


def start_aggregator(folder, clients, options):
    endpoint_file = folder / "endpoint"
    batch = options.batch_size or (max(64, clients) if options.algorithm == "parallel" else 64)
    aggregator = subprocess.Popen(
        [BIN / "tandem-aggregator", "--config", folder / "fleet/aggregator/aggregator.toml", "--endpoint",
         "tcp://127.0.0.1:*", "--endpoint-file", endpoint_file, "--clients", str(clients), "--model", options.model,
         "--cut", "1", "--algorithm", options.algorithm, "--batch-size", str(batch), "--rounds", str(options.rounds),
         "--threads", "1", "--run-dir", folder / "run", "--quiet"], stdout=subprocess.DEVNULL)
    while not endpoint_file.exists():
        if aggregator.poll() is not None:
            raise SystemExit("the aggregator did not start")
        time.sleep(0.05)
    return aggregator, endpoint_file.read_text().strip()


def start_edges(folder, endpoint, clients, options):
    processes = min(options.processes, clients)
    bounds = [clients * i // processes for i in range(processes + 1)]
    return [subprocess.Popen(
        [BIN / "many_edges", "--kits", folder / "fleet", "--endpoint", endpoint, "--first", str(first + 1), "--count",
         str(end - first), "--of", str(clients), "--data", options.data], stdout=subprocess.DEVNULL)
        for first, end in zip(bounds, bounds[1:])]


def peak_of(process):
    """Waits for a child, which must have been a success; its highest resident memory, bytes."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{pathlib.Path(process.args[0]).name} ended with {process.returncode}")
    return usage.ru_maxrss * 1024


def measure(clients, options):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        provision(folder / "fleet", clients)
        aggregator, endpoint = start_aggregator(folder, clients, options)
        edges = start_edges(folder, endpoint, clients, options)
        try:
            edge_bytes = sum(peak_of(process) for process in edges)
            aggregator_bytes = peak_of(aggregator)
        finally:
            for process in [*edges, aggregator]:
                if process.returncode is None:
                    process.kill()
                    process.wait()
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["event"] == "round"]
    took_part = {line["client"] for line in lines if line["event"] == "client" and line["steps"] > 0}
    missed = sum(line["missed_steps"] for line in lines if line["event"] == "client")
    if len(took_part) != clients or missed:
        print(f"warning: {len(took_part)} of {clients} clients made steps, {missed} of their steps were missed",
              file=sys.stderr)
    joins = [line["time"] for line in lines if line["event"] == "join"]
    return {"joining": max(joins) - min(joins), "steps": sum(line["steps"] for line in rounds),
            "seconds": sum(line["seconds"] for line in rounds), "aggregator": aggregator_bytes, "edges": edge_bytes}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", type=int, default=[4, 40, 400, 1000])
    parser.add_argument("--processes", type=int, default=4, help="that hold the clients")
    parser.add_argument("--algorithm", default="parallel")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--data", default="synthetic:images,examples=16000")
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    before = None
    for clients in options.clients:
        now = measure(clients, options)
        grown = ""
        if before is not None:
            further = clients - before["clients"]
            grown = "; a further client {:.0f} KiB and {:.0f} KiB".format(
                *((now[side] - before[side]) / further / 1024 for side in ("aggregator", "edges")))
        print(f"{clients:5} clients: joined within {now['joining']:4.1f} s, {now['steps']:4} steps of "
              f"{1000 * now['seconds'] / now['steps']:6.1f} ms; aggregator "
              f"{now['aggregator'] / 2**20:7.1f} MiB, {min(options.processes, clients)} client processes "
              f"{now['edges'] / 2**20:7.1f} MiB{grown}", flush=True)
        before = {"clients": clients, **now}


if __name__ == "__main__":
    main()
