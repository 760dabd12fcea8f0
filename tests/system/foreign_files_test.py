#!/usr/bin/python3
"""Data and weights as other people's programs write them, through the real programs."""
import gzip
import json
import pathlib
import random
import struct
import tempfile
import unittest

from processes import BIN, Fleet, overriding, run

MODEL = ["--model", "mlp:hidden=16", "--cut", "1", "--batch-size", "16", "--threads", "1", "--rounds", "1"]
TYPES = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
FORMATS = {"F32": "f", "F16": "e", "F64": "d"}
COUNT, SIDE, CLASSES = 80, 8, 4
SHAPES = {"0.1.weight": [16, SIDE * SIDE], "0.1.bias": [16], "1.0.weight": [CLASSES, 16], "1.0.bias": [CLASSES]}


def idx(code, sizes, values):
    return struct.pack(f">BBBB{len(sizes)}I{len(values)}{TYPES[code]}", 0, 0, code, len(sizes), *sizes, *values)


def size_of(shape):
    size = 1
    for side in shape:
        size *= side
    return size


def values_of(safetensors):
    """Without the header."""
    size, = struct.unpack("<Q", safetensors[:8])
    return safetensors[8 + size:]


def write_safetensors(path, tensors, metadata='{"format":"pt"}', prefix="", dtype="F32"):
    """`tensors`: name -> values, in the order of the file."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)
        header[prefix + name] = {"dtype": dtype, "shape": SHAPES.get(name, [len(values)]),
                                 "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = '{"__metadata__":' + metadata + "," + json.dumps(header)[1:]
    text = text.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


class ForeignFilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.runs = 0
        source = random.Random(3)
        self.pixels = [source.randrange(256) for _ in range(COUNT * SIDE * SIDE)]
        self.labels = [i % CLASSES for i in range(COUNT)]
        # Halves of small numbers, which every precision holds.
        self.weights = {name: [source.randrange(-8, 9) / 16 for _ in range(size_of(shape))] for name, shape in SHAPES.items()}

    def data(self, name, images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte", image_bytes=None, label_bytes=None):
        folder = self.folder / name
        folder.mkdir()
        (folder / images).write_bytes(image_bytes or idx(0x08, [COUNT, SIDE, SIDE], self.pixels))
        (folder / labels).write_bytes(label_bytes or idx(0x08, [COUNT], self.labels))
        return folder

    def simulate(self, data, *flags):
        self.runs += 1
        run_dir = self.folder / f"run-{self.runs}"
        done = run(BIN / "tandem", "simulate", "--run-dir", run_dir, "--data", data, "--quiet", *overriding(MODEL, flags))
        return done.returncode, done.stdout + done.stderr, run_dir

    def model(self, data, *flags):
        status, output, run_dir = self.simulate(data, *flags)
        self.assertEqual(status, 0, output)
        return (run_dir / "model.safetensors").read_bytes()

    def check(self, result, *texts, status=1):
        self.assertEqual(result[0], status, result[1])
        for text in texts:
            self.assertIn(str(text), result[1])

    def test_the_same_data_under_other_names_and_types_train_the_same_model(self):
        expected = self.model(f"idx:{self.data('good')}")
        dots = self.data("dots", "train-images.idx3-ubyte", "train-labels.idx1-ubyte")
        self.assertEqual(self.model(f"idx:{dots}"), expected)
        packed = self.data("packed", "my-train-images-idx3-ubyte", "my-train-labels-idx1-int",  # gzip without .gz
                           gzip.compress(idx(0x08, [COUNT, SIDE, SIDE], self.pixels)), idx(0x0C, [COUNT], self.labels))
        self.assertEqual(self.model(f"idx:{packed}"), expected)
        flat = self.data("flat", image_bytes=idx(0x08, [COUNT, SIDE * SIDE], self.pixels), label_bytes=idx(0x0E, [COUNT, 1], self.labels))
        # The model of flat examples has the same weights; only its recorded input shape differs.
        self.assertEqual(values_of(self.model(f"idx:{flat}")), values_of(expected))
        scaled = [struct.unpack("<f", struct.pack("<f", p / 255))[0] for p in self.pixels]
        floats = self.data("floats", image_bytes=idx(0x0D, [COUNT, 1, SIDE, SIDE], scaled))
        self.assertEqual(self.model(f"idx:{floats}"), expected)

    def test_an_aggregator_and_an_edge_on_files_with_dots(self):
        fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(fleet.close)
        data = self.data("dots", "train-images.idx3-ubyte", "train-labels.idx1-ubyte")
        (data / "test-images.idx3-ubyte").write_bytes(idx(0x08, [COUNT, SIDE, SIDE], self.pixels))
        (data / "test-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(0x09, [COUNT], self.labels)))
        fleet.data = f"idx:{data}"
        aggregator = fleet.aggregator("--rounds", "1", "--eval-data", f"idx:{data}")
        edge = fleet.edge("cam")
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        self.assertEqual(edge.wait(), 0, edge.output)

    def test_what_an_edge_says_of_files_it_cannot_use(self):
        edge = [BIN / "tandem-edge", "--insecure", "--name", "cam", "--data"]

        def run_edge(data):
            done = run(*edge, f"idx:{data}", timeout=60)
            return done.returncode, done.stdout + done.stderr

        page = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
        self.check(run_edge(self.data("page", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", page, page)),
                   "train-labels-idx1-ubyte.gz is an HTML page, not an IDX label file")
        one_hot = idx(0x08, [COUNT, CLASSES], [int(c == label) for label in self.labels for c in range(CLASSES)])
        self.check(run_edge(self.data("one-hot", label_bytes=one_hot)), "holds uint8 80 x 4, expected one label for each example")
        two = self.data("two")
        (two / "train-images.idx3-ubyte").write_bytes(b"")
        self.check(run_edge(two), "each of train-images-idx3-ubyte and train-images.idx3-ubyte could be the training images", status=2)
        (self.folder / "other").mkdir()
        (self.folder / "other/mnist.npz").write_bytes(b"")
        self.check(run_edge(self.folder / "other"), "no training images and no training labels", "holds mnist.npz")

    def test_a_label_far_from_the_others_is_refused_unless_it_is_meant(self):
        self.labels[37] = 255
        data = self.data("stray")
        self.check(self.simulate(f"idx:{data}"), data / "train-labels-idx1-ubyte", "label 255 of example 37", "idx:DIR,classes=256")
        self.assertEqual(self.simulate(f"idx:{data},classes=256")[0], 0)
        status, output, _ = self.simulate(f"idx:{self.data('few', label_bytes=idx(0x08, [COUNT], [9] * COUNT))}")
        self.assertEqual(status, 0, output)
        self.assertIn("label 9 of example 0 (counted from 0) makes 10 classes, and 9 of them have no example here", output)

    def test_weights_in_any_order_and_precision_begin_the_same_run(self):
        data = f"idx:{self.data('good')}"
        expected = self.model(data, "--init", write_safetensors(self.folder / "own.safetensors", self.weights))
        by_name = dict(sorted(self.weights.items()))
        files = {
            "library": write_safetensors(self.folder / "library.safetensors", by_name),
            "null": write_safetensors(self.folder / "null.safetensors", by_name, metadata="null"),
            "prefix": write_safetensors(self.folder / "prefix.safetensors", by_name, prefix="module."),
            "half": write_safetensors(self.folder / "half.safetensors", by_name, dtype="F16"),
            "double": write_safetensors(self.folder / "double.safetensors", by_name, dtype="F64"),
        }
        notes = {"prefix": 'the prefix "module." was taken off the names', "half": "4 tensors converted from float16 to float32",
                 "double": "4 tensors converted from float64 to float32"}
        for name, file in files.items():
            with self.subTest(name):
                status, output, run_dir = self.simulate(data, "--init", file)
                self.assertEqual(status, 0, output)
                self.assertEqual((run_dir / "model.safetensors").read_bytes(), expected)
                self.assertEqual(output.count(f"--init {file}: "), 1 if name in notes else 0, output)
                self.assertIn(notes.get(name, ""), output)

    def aggregator(self, *flags):
        done = run(BIN / "tandem-aggregator", "--insecure", "--endpoint", "tcp://127.0.0.1:*", "--run-dir", self.folder / "run",
                   "--quiet", *overriding(MODEL, flags), timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_weights_that_do_not_fit_end_the_aggregator_before_anybody_connects(self):
        by_name = dict(sorted(self.weights.items()))
        weights = self.folder / "weights.safetensors"
        wrong = {("1.0.wieght" if name == "1.0.weight" else name): values for name, values in by_name.items()}
        write_safetensors(weights, {**wrong, "head.scale": [1.0]})
        self.check(self.aggregator("--init", weights), f"--init {weights} does not fit --model mlp:hidden=16: ",
                   "the file lacks 1.0.weight; the model has no 1.0.wieght (for 1.0.weight?), head.scale")
        write_safetensors(weights, by_name)
        self.check(self.aggregator("--init", weights, "--input-shape", "1x9x9", "--num-classes", "5"),
                   "for examples of 1x9x9 in 5 classes: other shapes or kinds: 0.1.weight 16x64 for 16x81, 1.0.weight 4x16 for 5x16, "
                   "1.0.bias 4 for 5")
        write_safetensors(weights, {**by_name, "0.1.bias": [float("nan")] * 16})
        self.check(self.aggregator("--init", weights, "--input-shape", "1x8x8", "--num-classes", "4"), "NaN, infinity", "0.1.bias")
        # A file without any tensor is not the same as no file.
        weights.write_bytes(struct.pack("<Q", 2) + b"{}")
        self.check(self.aggregator("--init", weights), "the file lacks 0.1.weight")

    def test_what_people_download_by_mistake_is_called_by_its_name(self):
        weights = self.folder / "weights.safetensors"
        contents = {
            "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "an HTML page": b"<!DOCTYPE html>\n<html></html>\n",
            "a PyTorch file as torch.save writes it": b"PK\x03\x04" + bytes(26) + b"model/data.pkl",
            "a Python pickle": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            "an empty file": b"",
            "gzip data": gzip.compress(b"weights"),
        }
        for what, content in contents.items():
            weights.write_bytes(content)
            self.check(self.aggregator("--init", weights), f"--init: {weights} is {what}", ", not a safetensors file; ")
        self.check(self.aggregator("--init", self.folder), f"--init: {self.folder} is a folder; give a file, such as")
        self.assertEqual([p for p in (self.folder / "run").rglob("*") if p.is_file()], [])

    def test_parts_and_models_of_a_run_are_told_apart(self):
        data = f"idx:{self.data('good')}"
        status, output, run_dir = self.simulate(data)
        self.assertEqual(status, 0, output)
        self.assertEqual(self.simulate(data, "--init", run_dir / "model.safetensors")[0], 0)
        self.check(self.simulate(data, "--init", run_dir / "front.safetensors"), "the file lacks 1.0.weight",
                   "it holds only block(s) 0 of the model", "give the model.safetensors of the run")
        self.check(self.simulate(data, "--init", run_dir / "model.safetensors", "--model", "mlp:hidden=16-8"),
                   "the file says that it is of --model mlp:hidden=16")

    def test_a_run_that_goes_on_does_not_need_its_first_weights(self):
        data = f"idx:{self.data('good')}"
        weights = write_safetensors(self.folder / "own.safetensors", self.weights)
        status, output, run_dir = self.simulate(data, "--init", weights, "--checkpoint-steps", "2")
        self.assertEqual(status, 0, output)
        weights.unlink()
        done = run(BIN / "tandem", "simulate", "--config", run_dir / "config.toml", "--resume")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
