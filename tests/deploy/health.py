"""An admin port that says what a test wants it to say."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Health:
    """What it says, and who has asked.

    Attributes:
        port: where it is.
        ready: whether /readyz is 200.
        asked: what was asked for, and for which host.
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
    """Serve it while the block runs."""
    started = Health()
    thread = threading.Thread(target=started.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield started
    finally:
        started.server.shutdown()
        thread.join()
        started.server.server_close()
