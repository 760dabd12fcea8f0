#!/usr/bin/env python3
"""Host names and addresses: silent and slow name servers, IPv6, dead addresses, forwarders without an aggregator.

The programs get a name server, /etc/hosts and /etc/nsswitch.conf of their own by a private mount namespace, so these
tests need the right to make one and to listen on port 53 of a loopback address; without it they are skipped."""
import contextlib
import itertools
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

import at_once
from processes import BIN, Fleet, ShapingProxy, wait_until

NAME = "aggregator.test"


class NameServer:
    """Answers A and AAAA questions about one name from lists of addresses; holds every answer back while told to."""

    addresses = (f"127.0.0.{i}" for i in itertools.count(77))  # one for each: tests run at the same time

    def __init__(self, ipv4=(), ipv6=()):
        self.records = {1: [socket.inet_aton(a) for a in ipv4],
                        28: [socket.inet_pton(socket.AF_INET6, a) for a in ipv6]}
        self.answering = threading.Event()
        self.answering.set()
        self.waiting = []
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = next(self.addresses)
        try:
            self.socket.bind((self.address, 53))
        except OSError as error:
            self.socket.close()
            raise unittest.SkipTest(f"cannot be a name server here: {error}") from None
        self.socket.settimeout(0.1)
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.closed.is_set():
            try:
                question, sender = self.socket.recvfrom(512)
            except TimeoutError:
                continue
            self.asked += 1
            threading.Thread(target=self._answer, args=(question, sender), daemon=True).start()

    def _answer(self, question, sender):
        self.answering.wait()
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack(">H", question[end - 4:end - 2])
        records = self.records.get(kind, [])
        answer = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0) + question[12:end]
        for record in records:
            answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(record)) + record
        with contextlib.suppress(OSError):
            self.socket.sendto(answer, sender)

    def close(self):
        self.closed.set()
        self.answering.set()
        self.thread.join(5)
        self.socket.close()


class NamesTest(unittest.TestCase):
    def setUp(self):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("this machine does not let us make a mount namespace")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)
        self.fleet = Fleet(self.folder, ["cam"])
        self.addCleanup(self.fleet.close)

    def name_server(self, **records):
        self.server = NameServer(**records)
        self.addCleanup(self.server.close)
        return self.server

    def edge(self, endpoint, *flags, hosts="", options="timeout:30 attempts:2", base=None):
        """An edge that sees our name server and our /etc/hosts."""
        files = {"hosts": hosts, "nsswitch.conf": "hosts: files dns\n",
                 "resolv.conf": f"nameserver {self.server.address}\noptions {options}\n"}
        mounts = []
        for name, text in files.items():
            (self.folder / name).write_text(text)
            mounts.append(f"mount --bind {self.folder / name} /etc/{name}")
        base = base or ["--config", self.fleet.kits / "cam/edge.toml"]
        return self.fleet.start(
            "unshare", "-m", "sh", "-c", " && ".join([*mounts, 'exec "$0" "$@"']), BIN / "tandem-edge", *base,
            "--endpoint", endpoint, "--data", self.fleet.data, "--threads", "1", *flags)

    def check_completes(self, aggregator, edge):
        self.assertEqual(aggregator.wait(), 0, aggregator.output + edge.output)
        self.assertEqual(edge.wait(), 0, edge.output)

    def port(self):
        return self.fleet.endpoint.rsplit(":", 1)[1]

    def test_a_stop_waits_for_no_lookup(self):
        server = self.name_server()
        server.answering.clear()
        edge = self.edge(f"tcp://{NAME}:5555")
        wait_until(lambda: server.asked > 0 and "waiting for the aggregator at" in edge.output, "the lookup to begin")
        edge.stop(signal.SIGTERM)
        self.assertEqual(edge.wait(20), 130, edge.output)
        self.assertIn(f'looking up "{NAME}" for', edge.output)

    def test_a_lookup_of_any_length_is_waited_for(self):
        server = self.name_server(ipv4=["127.0.0.1"])
        server.answering.clear()
        aggregator = self.fleet.aggregator("--rounds", "1")
        edge = self.edge(f"tcp://{NAME}:{self.port()}")
        wait_until(lambda: re.search(r'looking up "aggregator.test" for (1[4-9]|[2-9]\d) s', edge.output),
                   "the lookup to take long", seconds=60)
        server.answering.set()
        self.check_completes(aggregator, edge)

    def test_a_name_that_has_only_an_ipv6_address(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this machine has no IPv6")
        self.name_server(ipv6=["::1"])
        for listen in ("tcp://[::1]:*", "tcp://*:*"):
            with self.subTest(listen=listen):
                self.fleet.run_dir = self.folder / f"run-{len(listen)}"
                aggregator = self.fleet.aggregator("--rounds", "1", endpoint=listen)
                self.assertIn("tcp://[::", self.fleet.endpoint)
                self.check_completes(aggregator, self.edge(f"tcp://{NAME}:{self.port()}"))

    def test_the_first_address_is_dead(self):
        for addresses in (["127.0.0.2", "127.0.0.3"], ["127.0.0.3", "127.0.0.2"]):
            with self.subTest(addresses=addresses):
                server = self.name_server(ipv4=addresses)
                self.fleet.run_dir = self.folder / addresses[0]
                aggregator = self.fleet.aggregator("--rounds", "1", endpoint="tcp://127.0.0.3:*")
                self.check_completes(aggregator, self.edge(f"tcp://{NAME}:{self.port()}"))
                server.close()

    def test_the_first_address_swallows_what_is_sent_to_it(self):
        for addresses in (["127.0.0.2", "127.0.0.3"], ["127.0.0.3", "127.0.0.2"]):
            with self.subTest(addresses=addresses), contextlib.ExitStack() as sockets:
                server = self.name_server(ipv4=addresses)
                self.fleet.run_dir = self.folder / addresses[0]
                aggregator = self.fleet.aggregator("--rounds", "1", endpoint="tcp://127.0.0.3:*")
                # Its queue of connections is full: the kernel answers no further ones.
                full = sockets.enter_context(socket.create_server(("127.0.0.2", int(self.port())), backlog=0))
                for _ in range(8):
                    filler = sockets.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(full.getsockname())
                self.check_completes(aggregator, self.edge(f"tcp://{NAME}:{self.port()}"))
                server.close()

    def test_an_address_that_changes_is_followed(self):
        server = self.name_server(ipv4=["127.0.0.2"])
        aggregator = self.fleet.aggregator("--rounds", "1", endpoint="tcp://127.0.0.3:*")
        edge = self.edge(f"tcp://{NAME}:{self.port()}")
        wait_until(lambda: "nobody listens" in edge.output, "the edge to say that nobody listens")
        self.assertIn(f"(127.0.0.2:{self.port()})", edge.output)
        server.records[1] = [socket.inet_aton("127.0.0.3")]
        self.check_completes(aggregator, edge)

    def test_a_name_that_does_not_exist_yet_is_waited_for(self):
        server = self.name_server()
        aggregator = self.fleet.aggregator("--rounds", "1")
        edge = self.edge(f"tcp://{NAME}:{self.port()}")
        wait_until(lambda: f'cannot look up the host name "{NAME}"' in edge.output, "the edge to say so")
        server.records[1] = [socket.inet_aton("127.0.0.1")]
        self.check_completes(aggregator, edge)

    def test_a_name_server_that_dies_keeps_no_device_out(self):
        server = self.name_server(ipv4=["127.0.0.1"])
        aggregator = self.fleet.aggregator("--rounds", "1000000")
        link = ShapingProxy(self.fleet.endpoint)
        self.addCleanup(link.close)
        edge = self.edge(f"tcp://{NAME}:{link.port}")
        wait_until(lambda: self.fleet.metrics("round"), "the first round")
        server.answering.clear()
        asked = server.asked
        link.cut(hang_up=True)
        wait_until(lambda: server.asked > asked, "the edge to ask for the address again")
        link.cut(False)
        # The lookup goes on for two minutes; the address that worked before is tried meanwhile.
        wait_until(lambda: self.fleet.metrics("reconnect"), "the edge to be back")
        edge.stop(signal.SIGTERM)
        self.assertEqual(edge.wait(20), 130, edge.output)
        self.assertIsNone(aggregator.process.poll(), aggregator.output)

    def test_localhost_that_leads_elsewhere_gets_nothing_without_encryption(self):
        self.name_server()
        edge = self.edge("tcp://localhost:5555", hosts="192.0.2.1 localhost\n", base=["--insecure", "--name", "cam"])
        wait_until(lambda: '"localhost" is no loopback address here' in edge.output, "the edge to say so")


class ForwarderTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.fleet = Fleet(directory.name, ["cam"])
        self.addCleanup(self.fleet.close)

    def test_an_edge_waits_behind_a_forwarder_whose_aggregator_is_not_up_yet(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = "tcp://127.0.0.1:%d" % free.getsockname()[1]
        forwarder = ShapingProxy(endpoint)
        self.addCleanup(forwarder.close)
        forwarder.cut(hang_up=True)
        edge = self.fleet.edge("cam", endpoint=forwarder.endpoint)
        wait_until(lambda: "is accepted and then closed without an answer" in edge.output, "the edge to say why")
        self.assertNotIn("its key", edge.output)
        tried = forwarder.connections
        wait_until(lambda: forwarder.connections >= tried + 6, "it to try on")
        self.assertIsNone(edge.process.poll(), edge.output)
        aggregator = self.fleet.aggregator("--rounds", "1", endpoint=endpoint)
        forwarder.cut(False)
        self.assertEqual(aggregator.wait(), 0, aggregator.output)
        self.assertEqual(edge.wait(), 0, edge.output)


load_tests = at_once.load_tests

if __name__ == "__main__":
    unittest.main()
