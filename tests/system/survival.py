"""A fleet whose programs are killed and started again, for the tests beside this file."""
import hashlib
import signal

from processes import DATA, Fleet, overriding


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SurvivingFleet(Fleet):
    """Every program keeps what it needs to go on, and is started again after each death with the same flags."""

    def __init__(self, folder, devices, *flags, data=DATA):
        super().__init__(folder, devices)
        # Whoever is away for longer than the timeout is waited for: nobody loses its place.
        patient = ["--stragglers", "wait:update-deadline=600s", "--min-clients", str(len(devices)),
                   "--client-timeout", "3"]
        self.flags = [*overriding(patient, flags), "--resume"]
        self.data = data
        self.running = {}  # name -> program; the aggregator is None

    def start_aggregator(self):
        # The second start and later ones listen where the devices look for it.
        endpoint = self.endpoint or "tcp://127.0.0.1:*"
        self.running[None] = self.aggregator(*self.flags, endpoint=endpoint)
        if self.endpoint is None:
            raise AssertionError("the aggregator does not listen:\n" + self.running[None].output)

    def start_edge(self, device, *flags, endpoint=None):
        self.running[device] = self.edge(
            device, "--run-dir", self.folder / device, "--resume", "--resend-after", "2", *flags, endpoint=endpoint)

    def kill(self, name):
        self.running[name].stop(signal.SIGKILL)
        self.running[name].wait(10)

    def alive(self, name):
        return self.running[name].process.poll() is None

    def position(self, name=None):
        """(rounds, steps) of a program's newest checkpoint."""
        newest = (0, 0)
        folder = self.run_dir if name is None else self.folder / name
        for path in (folder / "checkpoints").glob("round-*-step-*.json"):
            _, rounds, _, steps = path.stem.split("-")
            newest = max(newest, (int(rounds), int(steps)))
        return newest

    def finish(self, seconds=120):
        statuses = {name: program.wait(seconds) for name, program in self.running.items()}
        for name, status in statuses.items():
            assert status == 0, f"{name or 'the aggregator'} ended with {status}:\n{self.running[name].output}"

    def weights(self):
        return digest(self.run_dir / "model.safetensors")
