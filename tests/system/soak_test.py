"""A long run of a tiny model while devices come and go: the memory of the aggregator and of a device that stays is
flat. Prints a table of it.

Flat means: once the first fifth of the rounds is done, resident memory never exceeds that of the moment by more than
the bound, whatever comes and goes until the last round. TANDEM_SOAK_STEPS (100000) is the number of steps that
the run must have applied, TANDEM_SOAK_BOUND (0.02) the growth that it may show."""
import json
import os
import pathlib
import random
import signal
import tempfile
import threading
import time
import unittest

from processes import Fleet

STEPS = int(os.environ.get("TANDEM_SOAK_STEPS", "100000"))
BOUND = float(os.environ.get("TANDEM_SOAK_BOUND", "0.02"))
STEPS_OF_ROUND = 100
WARM_UP = 0.2
STAYING = ["stay-1", "stay-2"]
GUESTS = ["guest-1", "guest-2", "guest-3"]
DATA = "synthetic:blobs,examples=320,classes=4,features=8"
# Steps after which somebody must have come or gone once more: those who do so are timed by the clock.
STEPS_OF_A_VISIT = 2000


def flags_for(steps):
    # Some rounds more than it takes: a step whose clients all went away is not applied.
    rounds = -(-steps // STEPS_OF_ROUND) * 26 // 25 + 1
    return ["--model", "mlp:hidden=8", "--cut", "1", "--rounds", rounds, "--local-steps", STEPS_OF_ROUND,
            "--batch-size", "20", "--min-clients", "2", "--stragglers",
            "drop:deadline=200ms,update-deadline=1s", "--client-timeout", "1", "--quiet"]


def resident_kib(program):
    """0 when the program has ended."""
    try:
        for line in pathlib.Path(f"/proc/{program.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


class Follower:
    """Reads what is new in a run's metrics, and counts."""

    def __init__(self, path):
        self.path = path
        self.at = 0
        self.applied = self.of_round = self.rounds = self.joins = self.leaves = 0

    def read(self):
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.at)
            text = file.read()
        end = text.rfind(b"\n") + 1
        self.at += end
        for line in map(json.loads, text[:end].splitlines()):
            if line["event"] == "client":
                # Each of them moved the model, so that at least as many did as the client with the most made.
                self.of_round = max(self.of_round, line["steps"])
            elif line["event"] == "round":
                self.applied += self.of_round
                self.of_round = 0
                self.rounds += 1
            self.joins += line["event"] == "join"
            self.leaves += line["event"] == "leave"


class Guest(threading.Thread):
    """Starts one device's program again and again, each time for a while, and ends it without or with a goodbye."""

    def __init__(self, start, seed):
        super().__init__(daemon=True)
        self.start_program, self.chance = start, random.Random(seed)
        self.over = threading.Event()
        self.killed = self.stopped = 0
        self.failure = None

    def run(self):
        try:
            while not self.over.is_set():
                self.visit()
                self.over.wait(self.chance.random())
        except Exception as failure:  # for the thread that waits for this one
            self.failure = failure

    def visit(self):
        program = self.start_program()
        goodbye = self.chance.random() < 0.5
        if not self.over.wait(2 + 3 * self.chance.random()) and program.process.poll() is None:
            self.stopped += goodbye
            self.killed += not goodbye
        program.stop(signal.SIGTERM if goodbye else signal.SIGKILL)
        program.wait(30)


class Soak(unittest.TestCase):
    @staticmethod
    def start_guests(fleet, flags):
        guests = [Guest(lambda name=name: fleet.edge(name, "--quiet", *flags(name)), seed)
                  for seed, name in enumerate(GUESTS)]
        for guest in guests:
            guest.start()
        return guests

    @staticmethod
    def end(guests):
        for guest in guests:
            guest.over.set()
        for guest in guests:
            guest.join(60)
            if guest.failure:
                raise guest.failure

    def run_with_guests(self, steps, keep):
        """What was counted, memory as [(rounds done, {program: KiB})] through the run, the guests, the rounds."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        fleet = Fleet(folder.name, STAYING + GUESTS)
        self.addCleanup(fleet.close)
        fleet.data = DATA
        flags = flags_for(steps)
        rounds = flags[flags.index("--rounds") + 1]
        fleet.devices = STAYING  # the run begins with these
        aggregator = fleet.aggregator(*flags, *(["--checkpoint-steps", "20"] if keep else []))
        fleet.devices = STAYING + GUESTS
        edge_flags = (lambda name: ["--run-dir", fleet.folder / name, "--resume"]) if keep else (lambda name: [])
        staying = {name: fleet.edge(name, "--quiet", *edge_flags(name)) for name in STAYING}
        counted = Follower(fleet.run_dir / "metrics.jsonl")
        memory = []
        guests = self.start_guests(fleet, edge_flags)
        try:
            while counted.rounds < rounds and aggregator.process.poll() is None:
                time.sleep(0.1)
                counted.read()
                memory.append((counted.rounds, {"aggregator": resident_kib(aggregator),
                                                "a device": resident_kib(staying[STAYING[0]])}))
        finally:
            self.end(guests)
        self.assertEqual(aggregator.wait(60), 0, aggregator.output)
        for name, program in staying.items():
            self.assertEqual(program.wait(60), 0, f"{name}: {program.output}")
        counted.read()
        self.assertEqual(fleet.summary()["status"], "completed")
        # What was read last may be of programs on their way out.
        return counted, [(done, kib) for done, kib in memory[:-1] if done < rounds], guests, rounds

    def growth(self, memory, rounds):
        """Prints how much there was at each tenth of the rounds; of each program, growth after the warm-up."""
        print(f"{'':12}" + "".join(f"{tenth * 10:7} %" for tenth in range(1, 11)), flush=True)
        grown = {}
        for name in memory[0][1]:
            after = {tenth: [kib[name] for done, kib in memory if done >= tenth / 10 * rounds] for tenth in range(10)}
            warm = after[WARM_UP * 10]
            grown[name] = max(warm) / warm[0] - 1
            shown = [after[tenth][0] for tenth in range(1, 10)] + [warm[-1]]
            print(f"{name:12}" + "".join(f"{kib / 1024:9.2f}" for kib in shown)
                  + f" MiB, at most {100 * grown[name]:+.2f} % after 20 %", flush=True)
        return grown

    def check(self, steps, keep):
        began = time.monotonic()
        counted, memory, guests, rounds = self.run_with_guests(steps, keep)
        killed, stopped = sum(guest.killed for guest in guests), sum(guest.stopped for guest in guests)
        print(f"{counted.applied} steps in {counted.rounds} rounds and {time.monotonic() - began:.0f} s, "
              f"{'with' if keep else 'without'} --checkpoint-steps; devices came {counted.joins} times and went "
              f"{counted.leaves} times, {killed} of them killed, {stopped} told to stop", flush=True)
        self.assertGreaterEqual(counted.applied, steps)
        self.assertGreaterEqual(killed + stopped, steps // STEPS_OF_A_VISIT)
        for name, growth in self.growth(memory, rounds).items():
            self.assertLessEqual(growth, BOUND, f"the memory of {name} grew")

    def test_memory_is_flat(self):
        self.check(STEPS, keep=False)

    def test_memory_is_flat_with_checkpoints(self):
        self.check(STEPS // 4, keep=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
