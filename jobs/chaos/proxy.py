"""A proxy before an S3 server that breaks requests and answers by a seeded plan, over real connections.

python -m jobs.chaos.proxy --upstream http://127.0.0.1:9000 --port 9100 --faults 503,reset --rate 0.3
"""

import argparse
import http.client
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

SLOW_S: Final = 0.3
SILENT: Final = ("connection", "transfer-encoding", "expect", "content-length")
KINDS: Final = ("503", "500", "reset", "slow", "lost-ack", "truncate", "flip")
BAD_BODY: Final = (
    b"<?xml version='1.0'?><Error><Code>XAmzContentSHA256Mismatch</Code>"
    b"<Message>the body is not what was signed</Message></Error>"
)
ERROR: Final = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>made by the proxy</Message></Error>"


class Faults:
    """Which of `kinds` befalls a request, with what likelihood. `down` refuses everybody: an outage."""

    def __init__(self, kinds: tuple[str, ...] = (), rate: float = 0.0, seed: int = 0) -> None:
        self.kinds, self.rate = kinds, rate
        self.down = self.strip = False  # strip: conditions of writes are lost on the way
        self.happened = Counter[str]()
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> str:
        """The fault of the next request, or nothing."""
        with self._lock:
            kind = "down" if self.down else ""
            if not kind and self.kinds and self._rng.random() < self.rate:
                kind = self._rng.choice(self.kinds)
            if kind:
                self.happened[kind] += 1
            return kind

    def place(self, size: int) -> int:
        """A byte somewhere in so many."""
        with self._lock:
            return self._rng.randrange(size)


class Proxy:
    """Serves at `url` until closed. `faults` may be changed while it serves."""

    def __init__(self, upstream: str, faults: Faults | None = None, *, port: int = 0) -> None:
        self.faults = faults or Faults()
        handler: Callable[..., BaseHTTPRequestHandler] = type(
            "Handler", (_Handler,), {"faults": self.faults, "upstream": urlsplit(upstream).netloc}
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    upstream: str

    def _handle(self) -> None:
        body = self._body()
        kind = self.faults.draw()
        if kind in ("reset", "down"):
            return self._hang_up()
        if kind in ("503", "500"):
            code = b"SlowDown" if kind == "503" else b"InternalError"
            return self._send(int(kind), [("Retry-After", "0")] if kind == "503" else [], ERROR % code)
        if kind == "slow":
            time.sleep(SLOW_S)
        if kind == "flip" and body and self.command == "PUT":  # what S3 finds by the signature of the body
            return self._send(400, [], BAD_BODY)
        status, headers, answer = self._ask(body)
        if kind == "lost-ack":
            return self._hang_up()
        if kind == "truncate" and answer and status < 300:
            self._send(status, headers, answer[: self.faults.place(len(answer))], size=len(answer))
            return self._hang_up()
        if kind == "flip" and answer and self.command == "GET" and status in (200, 206):
            answer = self._flipped(answer)
        return self._send(status, headers, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    def _flipped(self, answer: bytes) -> bytes:
        """A bit anywhere; of a listing, whose names have no checksum but that of TLS, in one of its times."""
        places: Sequence[int] = range(len(answer))
        if b"<ListBucketResult" in answer[:200]:
            times = [m.span(1) for m in re.finditer(rb"<LastModified>([^<]+)<", answer)]
            places = [place for start, end in times for place in range(start, end)]
        if not places:
            return answer
        place = places[self.faults.place(len(places))]
        return answer[:place] + bytes([answer[place] ^ 1]) + answer[place + 1 :]

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        drop = (*SILENT, "if-none-match") if self.faults.strip else SILENT
        headers = {k: v for k, v in self.headers.items() if k.lower() not in drop}
        headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            kept = [(k, v) for k, v in response.getheaders() if k.lower() not in SILENT]
            if self.command == "HEAD" and (size := response.getheader("Content-Length")):
                kept.append(("Content-Length", size))
            return response.status, kept, response.read()
        finally:
            connection.close()

    def _send(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, size: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # RST, not FIN
            self.connection.close()
        except OSError:
            pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError):  # the other side is gone, or this one hung up
            self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", default="", help=f"some of {','.join(KINDS)}")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strip", action="store_true", help="lose If-None-Match: every writer wins")
    arguments = parser.parse_args()
    faults = Faults(tuple(filter(None, arguments.faults.split(","))), arguments.rate, arguments.seed)
    faults.strip = arguments.strip
    proxy = Proxy(arguments.upstream, faults, port=arguments.port)
    print(proxy.url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        proxy.close()


if __name__ == "__main__":
    main()
