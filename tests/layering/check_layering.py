#!/usr/bin/env python3
"""Fails on an #include that points the wrong way, or on a third-party header outside its home.

usage: check_layering.py [ROOT]      checks the tree at ROOT (default: this repository)
       check_layering.py --self-test shows on small trees that each rule catches its violation
"""

import pathlib
import re
import sys
import tempfile

# What the files of a folder may include of this project. Folders that are not named here join the
# others and may include anything.
LAYERS = {
    "core": {"core"},
    "datasets": {"core", "datasets"},
    "augment": {"core", "augment"},
    "edge_client": {"core", "edge_client"},
    "aggregator": {"core", "aggregator"},
}
# The rooms of core, from the ground floor up: a file includes what lies in its own room or below it.
CORE_FLOORS = ("base", "data", "model", "partition", "training", "wire", "storage", "transport", "run",
               "planning", "profiling", "program")
# The programs hand data sets and augmenters to the libraries that must not know them.
MAINS = {"edge_client/program/main.cpp", "aggregator/program/main.cpp"}
JOINERS = ("tools", "examples", "tests")

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def is_private_source(path):
    """A .cpp, or a header that is not installed."""
    return path.endswith(".cpp") or path.endswith("_detail.h")


# (what an include looks like, who may include it, how that is said)
HOMES = (
    (re.compile(r"zmq(_addon)?\.hpp$|zmq\.h$"),
     lambda path: path.startswith("core/transport/") and is_private_source(path),
     "zmq belongs to the .cpp files of core/transport"),
    (re.compile(r"cereal/"),
     lambda path: path.startswith("core/wire/") and is_private_source(path),
     "cereal belongs to the .cpp files of core/wire"),
    (re.compile(r"openssl/"),
     lambda path: path.startswith("core/") and is_private_source(path),
     "OpenSSL belongs to .cpp files of core"),
    (re.compile(r"httplib\.h$"),
     lambda path: path == "core/run/status_server.cpp",
     "cpp-httplib belongs to core/run/status_server.cpp"),
    (re.compile(r"doctest"),
     lambda path: path.startswith("tests/support/"),
     'doctest is included only by tests/support; include "support/test.h"'),
    (re.compile(r"torch/torch\.h$"),
     lambda path: is_private_source(path) or path.startswith("tests/support/"),
     "headers include <ATen/core/Tensor.h>; <torch/torch.h> belongs to .cpp files"),
)


def complain_about_floor(path, target):
    """Why `path` of core must not include "tandem/`target`" of core, or None."""
    rooms = [name.split("/")[1] if name.count("/") > 1 else None for name in (path, target)]
    for room in rooms:
        if room not in CORE_FLOORS:
            return f"core has no room {room}; check_layering.py lists them in their order"
    if CORE_FLOORS.index(rooms[1]) > CORE_FLOORS.index(rooms[0]):
        return f"core/{rooms[1]} lies above core/{rooms[0]}"
    return None


def complain_about_layer(path, target):
    """Why `path` must not include "tandem/`target`", or None."""
    folder, included = path.split("/")[0], target.split("/")[0]
    allowed = LAYERS.get(folder)
    if path in MAINS:
        allowed = allowed | {"datasets", "augment"}
    if allowed is not None and included not in allowed:
        return f"{path} may include only {', '.join(sorted('tandem/' + name for name in allowed))}"
    if folder == "core" and included == "core":
        reason = complain_about_floor(path, target)
        if reason:
            return reason
    if folder in LAYERS and target.endswith("_detail.h"):
        if path.endswith(".h") and not path.endswith("_detail.h"):
            return "a header that is installed must not include one that is not"
        if included != folder:
            return f"{target} is private to {included}"
    return None


def complain(path, include, quoted):
    """Why the file `path` must not include `include`, or None."""
    if ".." in include.split("/"):
        return "includes are written from the include root, never with .."
    if include.startswith("tandem/"):
        return complain_about_layer(path, include.removeprefix("tandem/"))
    if quoted and path.split("/")[0] in LAYERS:
        return 'the project\'s headers are included as "tandem/folder/header.h"'
    for pattern, is_home, rule in HOMES:
        # Tests may speak raw ZeroMQ, cereal or OpenSSL to what they test.
        is_raw_test = path.startswith("tests/") and path.endswith(".cpp") and "doctest" not in rule
        if pattern.match(include) and not is_home(path) and not is_raw_test:
            return rule
    return None


def check(root):
    """All violations below `root` as lines of text, and how many files were looked at."""
    violations, count = [], 0
    for folder in (*LAYERS, *JOINERS):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".h", ".hpp", ".cpp") or not file.is_file():
                continue
            count += 1
            path = file.relative_to(root).as_posix()
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                found = INCLUDE.match(line)
                reason = found and complain(path, found.group(1), '"' in line)
                if reason:
                    violations.append(f"{path}:{number}: {found.group(1)}: {reason}")
    return violations, count


FORBIDDEN = (
    ("core/a.h", "<tandem/datasets/x.h>"),
    ("core/a.cpp", '"tandem/aggregator/x.h"'),
    ("datasets/a.cpp", '"tandem/augment/x.h"'),
    ("augment/a.cpp", '"tandem/datasets/x.h"'),
    ("edge_client/a.cpp", '"tandem/aggregator/x.h"'),
    ("edge_client/a.cpp", '"tandem/datasets/x.h"'),
    ("edge_client/sub/main.cpp", '"tandem/datasets/x.h"'),
    ("aggregator/program/main.cpp", '"tandem/edge_client/x.h"'),
    ("aggregator/a.cpp", '"tandem/tests/support/x.h"'),
    ("core/a.cpp", '"../datasets/x.h"'),
    ("core/wire/a.cpp", '"header.h"'),
    ("core/wire/a.cpp", "<zmq.hpp>"),
    ("core/transport/a.h", "<zmq.hpp>"),
    ("tools/a.cpp", "<zmq.h>"),
    ("core/transport/a.cpp", "<cereal/cereal.hpp>"),
    ("core/wire/a.h", "<cereal/cereal.hpp>"),
    ("core/a.h", "<openssl/rand.h>"),
    ("aggregator/a.cpp", "<openssl/rand.h>"),
    ("aggregator/a.cpp", "<httplib.h>"),
    ("core/run/a.h", "<httplib.h>"),
    ("core/a.cpp", "<doctest/doctest.h>"),
    ("tests/core/a_test.cpp", "<doctest/doctest.h>"),
    ("core/a.h", "<torch/torch.h>"),
    ("tools/a.h", "  <torch/torch.h>"),
    ("core/base/a.h", '"tandem/core/base/b_detail.h"'),
    ("core/base/a.cpp", '"tandem/core/model/model.h"'),
    ("core/wire/a.cpp", '"tandem/core/transport/keys.h"'),
    ("core/cellar/a.cpp", '"tandem/core/base/result.h"'),
    ("aggregator/a.cpp", '"tandem/core/b_detail.h"'),
)
PERMITTED = (
    ("core/run/a.h", '"tandem/core/base/result.h"'),
    ("core/base/a.h", '"tandem/core/base/result.h"'),
    ("core/a.h", "<ATen/core/Tensor.h>"),
    ("core/wire/a.cpp", '"tandem/core/data/b_detail.h"'),
    ("core/a.cpp", "<torch/torch.h>"),
    ("datasets/a.cpp", '"tandem/datasets/x.h"'),
    ("edge_client/program/main.cpp", '"tandem/datasets/x.h"'),
    ("aggregator/program/main.cpp", '"tandem/augment/x.h"'),
    ("core/transport/a.cpp", "<zmq.hpp>"),
    ("core/transport/sockets_detail.h", "<zmq.hpp>"),
    ("core/wire/a.cpp", "<cereal/archives/portable_binary.hpp>"),
    ("core/storage/a.cpp", "<openssl/evp.h>"),
    ("core/run/status_server.cpp", "<httplib.h>"),
    ("tools/a.cpp", '"tandem/aggregator/x.h"'),
    ("tests/support/test.h", "<torch/torch.h>"),
    ("tests/support/test.h", "<doctest/doctest.h>"),
    ("tests/core/transport/a_test.cpp", "<zmq.hpp>"),
    ("tests/core/a_test.cpp", '"support/test.h"'),
)


def violations_of(path, include):
    """What check() says about a tree with one file that has one include."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        file = root / path
        file.parent.mkdir(parents=True)
        file.write_text(f"// a comment\n#include {include}\n", encoding="utf-8")
        return check(root)[0]


def self_test():
    wrong = [f"not caught: {path} includes {include}"
             for path, include in FORBIDDEN if len(violations_of(path, include)) != 1]
    wrong += [f"wrongly caught: {path} includes {include}"
              for path, include in PERMITTED if violations_of(path, include)]
    for line in wrong:
        print(line)
    print(f"layering self-test: {len(FORBIDDEN)} forbidden and {len(PERMITTED)} permitted includes, "
          f"{len(wrong)} wrong")
    return 1 if wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parents[2]
    violations, count = check(root)
    for line in violations:
        print(line)
    print(f"layering: {count} files, {len(violations)} violations")
    if count == 0:
        print(f"no source files below {root}")
    return 1 if violations or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
