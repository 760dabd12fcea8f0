#!/usr/bin/python3
"""Whether two builds train the same weights to the bit: five runs with each, compared tensor by tensor.

    tests/bench/same_weights.py BIN_BEFORE BIN_AFTER

For a change that moves code and must not move results. The runs take algorithms, objectives, strategies and models in
turn; one is of real processes. Fails when a tensor differs. A flag that the two builds spell differently stands in
RESPELLED with both spellings.
"""
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

DATA = "synthetic:images,examples=480,test-examples=96,seed=3"
COMMON = ["--rounds", "2", "--seed", "7", "--threads", "1", "--quiet"]
SIMULATED = {
    "parallel, cnn, momentum": ["--algorithm", "parallel", "--model", "cnn", "--cut", "2",
                                "--optimizer", "sgd:momentum=0.9", "--augment", "crop:2,flip",
                                "--lr-schedule", "cosine"],
    "splitfed-v1, resnet18, batch norm local": ["--algorithm", "splitfed-v1", "--model", "resnet18:width=8", "--cut",
                                                "3", "--batch-norm", "local", "--optimizer", "adam",
                                                "--learning-rate", "0.001", "--local-steps", "3", "--hold-out", "0.1"],
    "splitfed-v2, lenet5, aligned, window 2": ["--algorithm", "splitfed-v2:window=2", "--model", "lenet5", "--cut",
                                               "2", "--edge-objective", "aligned:tail-interval=2"],
    "federated, mlp, scaffold": ["--algorithm", "federated", "--model", "mlp:hidden=64-32", "--strategy", "scaffold",
                                 "--partition", "dirichlet:0.3"],
}
PROCESSES = ["--algorithm", "parallel", "--model", "cnn", "--cut", "1", "--head-blocks", "1",
             "--optimizer", "sgd:weight-decay=0.001"]

# A flag and its value as the second build takes them: as the first build takes them.
RESPELLED = {
    ("--data", DATA): ("--data", "synthetic:images?examples=480&test-examples=96&seed=3"),
    ("--algorithm", "splitfed-v2:window=2"): ("--algorithm", "splitfed-v2", "--window", "2"),
    ("--edge-objective", "aligned:tail-interval=2"): ("--edge-objective", "aligned", "--tail-interval", "2"),
    ("--optimizer", "sgd:momentum=0.9"): ("--momentum", "0.9"),
    ("--optimizer", "sgd:weight-decay=0.001"): ("--weight-decay", "0.001"),
    ("--model", "resnet18:width=8"): ("--model", "resnet18?width=8"),
    ("--model", "mlp:hidden=64-32"): ("--model", "mlp?hidden=64-32"),
}


def as_before(flags):
    """The same flags in the spelling of the first build."""
    before = list(flags)
    for now, then in RESPELLED.items():
        for place in range(len(before) - 1):
            if tuple(before[place:place + 2]) == now:
                before[place:place + 2] = then
    return before


def tensors(path):
    """Name, type and shape of each tensor, and the digest of its bytes."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], tuple(entry["shape"]),
                   hashlib.sha256(content[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
                   .hexdigest())
            for name, entry in header.items()}


def simulate(binaries, run, flags, spelled):
    subprocess.run([binaries / "tandem", "simulate",
                    *spelled(["--clients", "4", "--data", DATA, *COMMON, "--run-dir", run, *flags])],
                   check=True, stdout=subprocess.DEVNULL)


def deploy(binaries, run, flags, spelled):
    fleet = run.parent / f"{run.name}-fleet"
    subprocess.run([binaries / "tandem", "provision", "--out", fleet, "--endpoint", "tcp://127.0.0.1:5555",
                    "--device", "a", "--device", "b"], check=True, stdout=subprocess.DEVNULL)
    address = run.parent / f"{run.name}-address"
    aggregator = subprocess.Popen([binaries / "tandem-aggregator", "--config", fleet / "aggregator/aggregator.toml",
                                   "--endpoint", "tcp://127.0.0.1:*", "--endpoint-file", address, "--clients", "2",
                                   *spelled([*COMMON, "--run-dir", run, *flags])], stdout=subprocess.DEVNULL)
    while not address.exists() and aggregator.poll() is None:
        os.sched_yield()
    edges = [subprocess.Popen([binaries / "tandem-edge", "--config", fleet / name / "edge.toml", "--endpoint",
                               address.read_text().strip(), *spelled(["--data", DATA]), "--shard", f"{number}/2",
                               "--threads", "1", "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
             for number, name in enumerate(["a", "b"])]
    if aggregator.wait(timeout=120) != 0 or any(edge.wait(timeout=60) != 0 for edge in edges):
        sys.exit(f"a program of {binaries} failed")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    before, after = (pathlib.Path(name).resolve() for name in sys.argv[1:])
    runs = {name: (simulate, flags) for name, flags in SIMULATED.items()}
    runs["two processes, U-shaped"] = (deploy, PROCESSES)
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (start, flags)) in enumerate(runs.items()):
            found = []
            for side, binaries, spelled in (("before", before, as_before), ("after", after, list)):
                run = pathlib.Path(folder) / f"{number}-{side}"
                start(binaries, run, flags, spelled)
                found.append(tensors(run / "model.safetensors"))
            names = found[0].keys() | found[1].keys()
            wrong = [key for key in sorted(names) if found[0].get(key) != found[1].get(key)]
            print(f"{name}: {len(names)} tensors, {len(names) - len(wrong)} the same to the bit")
            for key in wrong:
                print(f"  {key} differs")
            different += len(wrong)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
