"""A fake admin endpoint with the answers of a test."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Health:
    """A fake admin endpoint.

    Attributes:
        port: its TCP port on 127.0.0.1.
        ready: answer 200; otherwise 503.
        asked: path and HTTP version of each request.
    """

    def __init__(self) -> None:
        self.ready = True
        self.asked: set[tuple[str, str | None]] = set()
        health = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                health.asked.add((self.path, self.request_version))
                self.send_response(200 if health.ready else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.port = self.server.server_port


@contextmanager
def health() -> Iterator[Health]:
    """Serve a fake admin endpoint while the block runs."""
    started = Health()
    thread = threading.Thread(target=started.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield started
    finally:
        started.server.shutdown()
        thread.join()
        started.server.server_close()
