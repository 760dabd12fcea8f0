#!/usr/bin/python3
"""An independent oracle: rebuilds the models with PyTorch's own layers, optimisers and loss, starts from the
weights that Tandem exported, trains on the same batches in one piece, and compares every step's loss.

Usage: oracle.py EXPORT_RUN_BINARY
Exit status: 0 the losses agree to 1e-5, 1 they do not, 77 python3-torch is not installed.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import torch
    from torch import nn
except ImportError:
    print("skipped: python3-torch is not installed")
    sys.exit(77)

TOLERANCE = 1e-5
DTYPES = {"F32": torch.float32, "I64": torch.int64}


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        raw = bytearray(body[first:last])
        tensor = torch.frombuffer(raw, dtype=DTYPES[entry["dtype"]]) if raw else torch.empty(0)
        tensors[name] = tensor.reshape(entry["shape"]).clone()
    return tensors


class BasicBlock(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


def build(model):
    s = nn.Sequential
    if model == "cnn":
        return s(
            s(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            s(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            s(nn.Flatten(), nn.Linear(64 * 2 * 2, 128), nn.ReLU()),
            s(nn.Linear(128, 4)),
        )
    if model == "lenet5":
        return s(
            s(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            s(nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            s(nn.Flatten(), nn.Linear(16 * 2 * 2, 120), nn.ReLU()),
            s(nn.Linear(120, 84), nn.ReLU()),
            s(nn.Linear(84, 4)),
        )
    if model == "mlp:hidden=32-16":
        return s(
            s(nn.Flatten(), nn.Linear(64, 32), nn.ReLU()),
            s(nn.Linear(32, 16), nn.ReLU()),
            s(nn.Linear(16, 4)),
        )
    if model.startswith("resnet18:width="):
        channels = int(model.partition("=")[2])
        blocks = [s(nn.Conv2d(1, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())]
        for stage, width in enumerate([channels, 2 * channels, 4 * channels, 8 * channels]):
            for i in range(2):
                blocks.append(s(BasicBlock(channels, width, 2 if stage > 0 and i == 0 else 1)))
                channels = width
        blocks.append(s(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)))
        return s(*blocks)
    raise ValueError(model)


def channels_last(images):
    """The same values with channels-last strides, also for one channel, where .contiguous() keeps NCHW."""
    n, c, h, w = images.shape
    dense = images.permute(0, 2, 3, 1).contiguous()
    return dense.as_strided((n, c, h, w), (h * w * c, 1, w * c, c))


def optimizer_for(name, parameters):
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.05)
    if name == "momentum":
        return torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3)
    return torch.optim.Adam(parameters, lr=1e-3)


def compare(export_run, model, cut, clients, optimizer_name):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([export_run, model, str(cut), str(clients), optimizer_name, folder], check=True)
        folder = pathlib.Path(folder)
        network = build(model)
        network.load_state_dict(read_safetensors(folder / "initial.safetensors"))
        batches = read_safetensors(folder / "batches.safetensors")
        expected = [float(line) for line in (folder / "losses.txt").read_text().split()]
        final = read_safetensors(folder / "final.safetensors")
    # The memory format in which Tandem computes: batch norm over a handful of values amplifies the rounding
    # of other kernels about tenfold a step.
    network.to(memory_format=torch.channels_last)
    network.train()
    optimizer = optimizer_for(optimizer_name, network.parameters())
    worst = 0.0
    for step, loss_of_tandem in enumerate(expected):
        optimizer.zero_grad()
        logits = network(channels_last(batches[f"inputs.{step}"]))
        loss = nn.functional.cross_entropy(logits, batches[f"labels.{step}"])
        loss.backward()
        optimizer.step()
        worst = max(worst, abs(loss.item() - loss_of_tandem))
    weights = max(
        (final[name].double() - tensor.double()).abs().max().item() for name, tensor in network.state_dict().items()
    )
    agree = worst <= TOLERANCE
    print(
        f"{'ok  ' if agree else 'FAIL'} {model}, cut {cut}, {clients} client(s), {optimizer_name}: {len(expected)} steps, "
        f"loss {expected[0]:.4f} -> {expected[-1]:.4f}, largest loss difference {worst:.1e}, weights {weights:.1e}"
    )
    return agree


def main():
    torch.set_num_threads(1)
    cases = [
        ("cnn", 1, 1, "momentum"),
        ("cnn", 2, 4, "sgd"),
        ("lenet5", 1, 1, "adam"),
        ("lenet5", 3, 4, "sgd"),
        ("mlp:hidden=32-16", 1, 4, "sgd"),
        ("resnet18:width=8", 3, 1, "momentum"),
    ]
    results = [compare(sys.argv[1], *case) for case in cases]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
