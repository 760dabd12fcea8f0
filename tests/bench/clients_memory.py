#!/usr/bin/python3
"""Memory of tandem-aggregator against the number of encrypted clients, the same data shared out among them.

    tests/bench/clients_memory.py [--clients 4 40 400] [--algorithm parallel] [--model cnn]

Prints the aggregator's peak resident memory, and what each further client adds.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

BIN = pathlib.Path(os.environ.get("TANDEM_BIN", "build/release/bin")).resolve()
DATA = "synthetic:images?examples=8000"


def measure(clients, options):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        kits = folder / "fleet"
        devices = [argument for i in range(clients) for argument in ("--device", f"client-{i + 1}")]
        subprocess.run([BIN / "tandem", "provision", "--out", kits, "--endpoint", "tcp://127.0.0.1:5555", *devices],
                       check=True, stdout=subprocess.DEVNULL)
        endpoint_file = folder / "endpoint"
        aggregator = subprocess.Popen(
            [BIN / "tandem-aggregator", "--config", kits / "aggregator/aggregator.toml", "--endpoint",
             "tcp://127.0.0.1:*", "--endpoint-file", endpoint_file, "--clients", str(clients), "--model",
             options.model, "--cut", "1", "--algorithm", options.algorithm, "--rounds", "2", "--threads", "1",
             "--run-dir", folder / "run", "--quiet"], stdout=subprocess.DEVNULL)
        while not endpoint_file.exists():
            if aggregator.poll() is not None:
                raise SystemExit("the aggregator did not start")
            time.sleep(0.05)
        subprocess.run([BIN / "many_edges", "--kits", kits, "--endpoint", endpoint_file.read_text().strip(), "--count",
                        str(clients), "--data", DATA], check=True, stdout=subprocess.DEVNULL)
        if aggregator.wait(60) != 0:
            raise SystemExit("the aggregator failed")
        return json.loads((folder / "run/summary.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", type=int, default=[4, 40, 400])
    parser.add_argument("--algorithm", default="parallel")
    parser.add_argument("--model", default="cnn")
    options = parser.parse_args()
    before = None
    for clients in options.clients:
        summary = measure(clients, options)
        peak = summary["peak_rss_bytes"]
        grown = "" if before is None else f", {(peak - before[1]) / (clients - before[0]) / 1024:7.1f} KiB a further client"
        print(f"{clients:5} clients: {peak / 2**20:7.1f} MiB, {summary['seconds']:6.1f} s{grown}", flush=True)
        before = (clients, peak)


if __name__ == "__main__":
    main()
