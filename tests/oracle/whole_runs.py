#!/usr/bin/python3
"""Whole runs against their definitions: FedAvg and FedProx with every optimiser, the cosine schedule with and
without drawn clients, batch norm that stays local and that is frozen, from given initial weights.

The definitions below are written from the papers and from docs/algorithms.md, over PyTorch's own layers, losses
and optimisers. From Tandem come only the initial weights, who was drawn, and each client's batches.

Usage: whole_runs.py EXPORT_ROUNDS_BINARY
Exit status: 0 all agree, 1 some do not, 77 python3-torch is not installed.
"""
import dataclasses
import json
import math
import pathlib
import struct
import sys
import tempfile

try:
    import torch
    from torch import nn
except ImportError:
    print("skipped: python3-torch is not installed")
    sys.exit(77)

import processes
from oracle import build, channels_last, read_safetensors

TOLERANCE = 1e-5
LEAST_MOVED = 1e-3


@dataclasses.dataclass
class Run:
    """What is trained; the fields are those of the command line."""

    model: str = "lenet5"
    cut: int = 2
    algorithm: str = "federated"
    examples: tuple = (40, 12, 25)
    rounds: int = 3
    batch_size: int = 16
    local_epochs: int = 2
    local_steps: int = 0
    clients_per_round: int = 0
    optimizer: str = "sgd"
    mu: float = 0.0
    strategy: str = ""
    cosine: bool = False
    warmup: int = 0
    batch_norm: str = "average"
    init: bool = False
    tolerance: float = TOLERANCE

    def flags(self):
        values = {
            "model": self.model,
            "cut": self.cut,
            "algorithm": self.algorithm,
            "clients": len(self.examples),
            "rounds": self.rounds,
            "batch-size": self.batch_size,
            "strategy": self.strategy or (f"fedprox:mu={self.mu}" if self.mu else "fedavg"),
            "lr-schedule": f"{'cosine' if self.cosine else 'constant'}:warmup={self.warmup}",
            "clients-per-round": self.clients_per_round,
            "batch-norm": self.batch_norm,
            "augment": "crop:1,flip",
            "normalize": "0.5/0.25",
            "seed": 11,
            **ALL_OPTIMIZERS[self.optimizer][1],
        }
        values.update({"local-steps": self.local_steps} if self.local_steps else {"local-epochs": self.local_epochs})
        return [f"--{name}={value}" for name, value in values.items()]


# PyTorch's optimiser and the flags that ask for the same.
OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.05), {"optimizer": "sgd", "learning-rate": 0.05}),
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
        {"optimizer": "sgd:momentum=0.9,weight-decay=1e-3", "learning-rate": 0.02},
    ),
    "adam": (lambda p: torch.optim.Adam(p, lr=2e-3), {"optimizer": "adam", "learning-rate": 2e-3}),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.05),
        {"optimizer": "adamw:weight-decay=0.05", "learning-rate": 2e-3},
    ),
}
SLOW_SGD = "sgd, slow"
ALL_OPTIMIZERS = {
    **OPTIMIZERS,
    SLOW_SGD: (lambda p: torch.optim.SGD(p, lr=0.005), {"optimizer": "sgd", "learning-rate": 0.005}),
}


# ----------------------------------------------------------------------------------------------------------
# What Tandem did.


class Exported:
    """Initial and final weights, the draws, and the batches of a run of Tandem."""

    def __init__(self, export_rounds, run):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            command = [export_rounds, str(folder), ",".join(map(str, run.examples)), *run.flags()]
            if run.init:
                # The file that Tandem writes of a first run, its values changed in place: also those of batch norm.
                processes.run(*command, check=True)
                changed = folder / "changed.safetensors"
                changed.write_bytes(with_other_values((folder / "initial.safetensors").read_bytes()))
                command.append(f"--init={changed}")
            processes.run(*command, check=True)
            self.initial = read_safetensors(folder / "initial.safetensors")
            self.final = read_safetensors(folder / "final.safetensors")
            self.rounds = json.loads((folder / "rounds.json").read_text())
            self.tensors = read_safetensors(folder / "batches.safetensors")

    def batch(self, round_number, client, step):
        name = f"{round_number}/{client}/{step}/"
        return channels_last(self.tensors[name + "inputs"]), self.tensors[name + "labels"]

    def batches(self, round_number, client):
        sizes = self.rounds[round_number - 1]["clients"][client]
        return [self.batch(round_number, client, step) for step in range(len(sizes))]


def with_other_values(file):
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    data = bytearray(file)
    generator = torch.Generator().manual_seed(5)
    for name, entry in sorted(header.items()):
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] != "F32" or first == last:
            continue
        values = torch.frombuffer(bytearray(data[first:last]), dtype=torch.float32).clone()
        factors = 0.5 + torch.rand(values.shape, generator=generator)
        if name.endswith("running_mean") or name.endswith("bias"):
            values += 0.2 * factors
        values *= factors
        data[first:last] = values.numpy().tobytes()
    return bytes(data)


# ----------------------------------------------------------------------------------------------------------
# Definitions.


def learning_rate_factor(applied, period, warmup):
    """Linear warm-up, then one period of the cosine (Loshchilov and Hutter 2017, eq. 5), zero afterwards."""
    if applied < warmup:
        return (applied + 1) / (warmup + 1)
    if period is None:
        return 1.0
    t = applied - warmup
    return (1 + math.cos(math.pi * t / period)) / 2 if t < period else 0.0


def own_steps(run, examples):
    return run.local_steps or run.local_epochs * math.ceil(examples / run.batch_size)


def periods(run):
    """The expected steps of a device and of a tail over the run, less the warm-up."""
    if not run.cosine:
        return None, None
    clients = len(run.examples)
    drawn = run.clients_per_round or clients
    share = drawn / clients
    if run.algorithm == "parallel":
        mean = sum(run.examples) / clients
        joined = run.local_steps or run.local_epochs * math.ceil(drawn * mean / run.batch_size)
        device, tail = share * joined, joined
    else:
        steps = [own_steps(run, examples) for examples in run.examples]
        device = share * max(steps)
        tail = drawn * sum(steps) / clients if run.algorithm == "splitfed-v2" else device
    return tuple(max(1.0, steps * run.rounds - run.warmup) for steps in (device, tail))


def is_local(name, network):
    """Whether a tensor of the state belongs to a batch-norm layer."""
    return isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)


class Owner:
    """A part of the model with its optimiser, whose state it keeps for the whole run."""

    def __init__(self, run, network, period):
        self.run, self.network, self.period, self.applied = run, network, period, 0
        self.optimizer = ALL_OPTIMIZERS[run.optimizer][0]([p for p in network.parameters() if p.requires_grad])
        self.base_rate = self.optimizer.param_groups[0]["lr"]
        self.anchor = None

    def begin_round(self):
        self.anchor = [p.detach().clone() for p in self.network.parameters()]

    def proximal_term(self):
        """(mu/2) |w - w_t|^2, w_t what the round began with (Li et al. 2020, eq. 2)."""
        pairs = zip(self.network.parameters(), self.anchor)
        return self.run.mu / 2 * sum((p - start).square().sum() for p, start in pairs if p.requires_grad)

    def step(self):
        rate = self.base_rate * learning_rate_factor(self.applied, self.period, self.run.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.applied += 1


def average(states, examples):
    """FedAvg (McMahan et al. 2017, algorithm 1): weighted by examples; counters take the largest."""
    total = sum(examples)
    merged = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if first.is_floating_point():
            merged[name] = (sum(n * v.double() for n, v in zip(examples, values)) / total).to(first.dtype)
        else:
            merged[name] = torch.stack(values).max(0).values
    return merged


class Definition:
    """A run of the algorithm, round by round."""

    def __init__(self, run, exported):
        self.run, self.exported = run, exported
        self.merged = self.new_network()
        device_period, tail_period = periods(run)
        # federated, and splitfed-v1 to the same effect: each client trains a copy of all of it.
        self.whole = run.algorithm in ("federated", "splitfed-v1")
        blocks = len(self.merged) if self.whole else run.cut
        self.clients = {}
        for i in range(len(run.examples)):
            self.clients[f"client-{i + 1}"] = Owner(run, self.new_network()[:blocks], device_period)
        self.tail = None if self.whole else Owner(run, self.merged[blocks:], tail_period)
        self.losses = []

    def new_network(self):
        network = build(self.run.model)
        network.load_state_dict(self.exported.initial)
        network.to(memory_format=torch.channels_last)
        network.train()
        if self.run.batch_norm == "freeze":
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
                    module.requires_grad_(False)
        return network

    def exchanged(self, network):
        state = network.state_dict()
        if self.run.batch_norm != "local":
            return state
        return {name: value for name, value in state.items() if not is_local(name, network)}

    def train_alone(self, owner, batch):
        inputs, labels = batch
        owner.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(owner.network(inputs), labels)
        objective = loss + owner.proximal_term() if self.run.mu else loss
        objective.backward()
        owner.step()
        return loss.item() * len(labels), len(labels)

    def train_joined(self, batches):
        """One step of the tail on the batches of all these clients; each front steps on its own mean loss."""
        fronts = [self.clients[client] for client in batches]
        for owner in [self.tail, *fronts]:
            owner.optimizer.zero_grad()
        activations = torch.cat([self.clients[client].network(inputs) for client, (inputs, _) in batches.items()])
        labels = torch.cat([labels for _, labels in batches.values()])
        loss = nn.functional.cross_entropy(self.tail.network(activations), labels)
        loss.backward()
        for owner, (_, own_labels) in zip(fronts, batches.values()):
            for parameter in owner.network.parameters():
                if parameter.grad is not None:
                    parameter.grad *= len(labels) / len(own_labels)
        for owner in [self.tail, *fronts]:
            owner.step()
        return loss.item() * len(labels), len(labels)

    def train(self, number, drawn):
        """Yields the sum of losses and the number of examples of each step."""
        if self.whole:
            for client in drawn:
                for batch in self.exported.batches(number, client):
                    yield self.train_alone(self.clients[client], batch)
        elif self.run.algorithm == "splitfed-v2":
            for client in self.exported.rounds[number - 1]["turns"]:
                for batch in self.exported.batches(number, client):
                    yield self.train_joined({client: batch})
        else:
            for step in range(max(len(sizes) for sizes in drawn.values())):
                yield self.train_joined(
                    {client: self.exported.batch(number, client, step) for client in drawn if drawn[client][step] > 0}
                )

    def round(self, number):
        drawn = self.exported.rounds[number - 1]["clients"]
        front = self.merged[: len(self.clients["client-1"].network)]
        for client in drawn:
            self.clients[client].network.load_state_dict(self.exchanged(front), strict=False)
            self.clients[client].begin_round()
        steps = list(self.train(number, drawn))
        states = [self.exchanged(self.clients[client].network) for client in drawn]
        front.load_state_dict(average(states, [sum(sizes) for sizes in drawn.values()]), strict=False)
        self.losses.append(sum(loss for loss, _ in steps) / sum(examples for _, examples in steps))

    def train_all(self):
        for number in range(1, len(self.exported.rounds) + 1):
            self.round(number)


# ----------------------------------------------------------------------------------------------------------
# Comparisons.


def largest_difference(first, second):
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def agrees(export_rounds, what, run):
    exported = Exported(export_rounds, run)
    definition = Definition(run, exported)
    definition.train_all()
    found = [entry["loss"] for entry in exported.rounds]
    loss = max(abs(a - b) for a, b in zip(found, definition.losses))
    weights = largest_difference(exported.final, definition.merged.state_dict())
    moved = largest_difference(exported.final, exported.initial)
    agree = loss <= run.tolerance and weights <= run.tolerance and moved >= LEAST_MOVED
    print(
        f"{'ok  ' if agree else 'FAIL'} {what}: {len(found)} rounds, loss {found[0]:.4f} -> {found[-1]:.4f}, "
        f"largest difference of a loss {loss:.1e}, of a weight {weights:.1e} of {moved:.1e} moved",
        flush=True,
    )
    return agree


def same_to_the_bit(export_rounds, what, first, second):
    finals = [Exported(export_rounds, run).final for run in (first, second)]
    different = sum((finals[0][name] != finals[1][name]).sum().item() for name in finals[0])
    print(f"{'ok  ' if different == 0 else 'FAIL'} {what}: {different} weights differ", flush=True)
    return different == 0


def comparisons(export_rounds):
    compare = lambda what, **fields: agrees(export_rounds, what, Run(**fields))
    for optimizer in OPTIMIZERS:
        yield compare(f"fedprox, {optimizer}", mu=0.5, optimizer=optimizer)
        yield compare(f"fedprox, splitfed-v1, {optimizer}", mu=0.5, optimizer=optimizer, algorithm="splitfed-v1")
        one_step = dict(examples=(40,), rounds=4, local_steps=1, optimizer=optimizer)
        yield same_to_the_bit(
            export_rounds,
            f"one client and one local step a round, {optimizer}: fedprox = fedavg",
            Run(mu=0.5, **one_step),
            Run(**one_step),
        )
    one_step = dict(examples=(40,), rounds=4, local_steps=1)
    yield same_to_the_bit(
        export_rounds, "one client: scaffold = fedavg", Run(strategy="scaffold", **one_step), Run(**one_step)
    )

    mlp = dict(model="mlp:hidden=32-16", cut=1, cosine=True)
    six = dict(examples=(100, 100, 100), rounds=6, batch_size=25, local_epochs=1, clients_per_round=1)
    ten = dict(examples=(30,) * 10, rounds=12, local_steps=3, clients_per_round=1)
    for optimizer in OPTIMIZERS:
        yield compare(f"cosine, {optimizer}", optimizer=optimizer, **mlp)
        yield compare(f"cosine, warm-up, {optimizer}", optimizer=optimizer, warmup=4, **mlp)
        yield compare(f"cosine, 1 of 3 clients, 6 rounds, {optimizer}", optimizer=optimizer, **mlp, **six)
        yield compare(f"cosine, 1 of 10 clients, 12 rounds, {optimizer}", optimizer=optimizer, **mlp, **ten)
    for algorithm in ("splitfed-v1", "splitfed-v2", "parallel"):
        yield compare(f"cosine, {algorithm}", algorithm=algorithm, **mlp)
        yield compare(f"cosine, warm-up, 1 of 3 clients, {algorithm}", algorithm=algorithm, warmup=2, **mlp, **six)
        yield compare(f"cosine, 1 of 10 clients, {algorithm}", algorithm=algorithm, **mlp, **ten)

    resnet = dict(model="resnet18:width=16", cut=3, init=True, rounds=2, local_epochs=1)
    for optimizer in OPTIMIZERS:
        for mode in ("local", "freeze", "average"):
            yield compare(f"batch norm {mode}, --init, {optimizer}", batch_norm=mode, optimizer=optimizer, **resnet)
    for algorithm in ("splitfed-v1", "splitfed-v2"):
        yield compare(f"batch norm local, --init, {algorithm}", batch_norm="local", algorithm=algorithm, **resnet)
    # A joined gradient is divided among the clients and scaled back, which rounds. Batch norm over two values is
    # their order, so a rounding that swaps them changes the run: each client brings 20 examples or more, and steps
    # are small.
    joined = dict(resnet, algorithm="parallel", examples=(96, 64, 80), batch_size=80, optimizer=SLOW_SGD)
    yield compare("batch norm local, --init, parallel", batch_norm="local", **joined)


def main():
    torch.set_num_threads(1)
    sys.exit(0 if all(list(comparisons(sys.argv[1]))) else 1)


if __name__ == "__main__":
    main()
