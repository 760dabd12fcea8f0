#!/usr/bin/python3
"""The link between processes that ShapingProxy imitates has the bandwidth, delay and outages it was asked for."""
import socket
import threading
import time
import unittest

from processes import ShapingProxy


class Echo:
    """Sends back whatever it gets."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                end, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(end,), daemon=True).start()

    @staticmethod
    def _echo(end):
        with end:
            try:
                while data := end.recv(1 << 16):
                    end.sendall(data)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def receive(end, size):
    data = bytearray()
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return bytes(data)


class ShapingProxyTest(unittest.TestCase):
    def proxy(self, **shape):
        echo = Echo()
        self.addCleanup(echo.close)
        proxy = ShapingProxy(echo.endpoint, **shape)
        self.addCleanup(proxy.close)
        return proxy

    def connect(self, proxy):
        end = socket.create_connection(("127.0.0.1", proxy.port), 10)
        self.addCleanup(end.close)
        return end

    def seconds_for(self, proxy, size):
        end = self.connect(proxy)
        data = bytes(i % 251 for i in range(size))
        began = time.monotonic()
        sender = threading.Thread(target=end.sendall, args=(data,), daemon=True)
        sender.start()
        self.assertEqual(receive(end, size), data)
        sender.join(10)
        return time.monotonic() - began

    def test_without_shape_bytes_pass_whole(self):
        proxy = self.proxy()
        self.assertLess(self.seconds_for(proxy, 1 << 20), 5)
        self.assertEqual(proxy.passed, 2 << 20)

    def test_a_megabyte_takes_as_long_as_the_bandwidth_says(self):
        # There and back at the same time; the last piece comes back one piece later.
        seconds = self.seconds_for(self.proxy(bandwidth=1 << 20), 1 << 20)
        self.assertGreaterEqual(seconds, 1)
        self.assertLess(seconds, 3)

    def test_an_answer_takes_twice_the_delay_and_at_most_twice_the_jitter_more(self):
        seconds = self.seconds_for(self.proxy(delay=0.1, jitter=0.05), 10)
        self.assertGreaterEqual(seconds, 0.2)
        self.assertLess(seconds, 2)

    def test_jitter_keeps_the_order(self):
        self.seconds_for(self.proxy(jitter=0.02), 300_000)

    def test_an_outage_breaks_connections_and_refuses_new_ones_until_it_ends(self):
        proxy = self.proxy()
        before = self.connect(proxy)
        before.sendall(b"x")
        self.assertEqual(receive(before, 1), b"x")
        proxy.cut()
        self.assertEqual(before.recv(1), b"")
        with self.assertRaises(ConnectionRefusedError):
            self.connect(proxy)
        proxy.cut(False)
        self.assertLess(self.seconds_for(proxy, 1000), 5)

    def test_an_outage_may_hang_up_instead(self):
        proxy = self.proxy()
        proxy.cut(hang_up=True)
        end = self.connect(proxy)
        self.assertEqual(end.recv(1), b"")
        proxy.cut(False)
        self.assertLess(self.seconds_for(proxy, 1000), 5)


if __name__ == "__main__":
    unittest.main()
