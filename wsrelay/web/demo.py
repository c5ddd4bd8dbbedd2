"""The demo page: one file, which is also the example of a client that people copy."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

__all__ = ["Page"]


class Page:
    """A page with its style and its script inside.

    Attributes:
        body: the page.
        fields: what its response says of it: that nothing but this style and this script may run, and where it may
            connect to.
    """

    def __init__(self, name: str = "demo.html") -> None:
        self.body = files("wsrelay.web").joinpath(name).read_bytes()
        policy = [
            "default-src 'none'",
            f"script-src {self._hashes('script')}",
            f"style-src {self._hashes('style')}",
            "connect-src 'self' ws: wss:",
            "img-src blob: data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        self.fields = (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", "; ".join(policy)),
            ("Referrer-Policy", "no-referrer"),
        )

    def _hashes(self, element: str) -> str:
        """Return the hashes of what is in all elements of a kind. Source: CSP Level 3, section 2.3.1."""
        contents = re.findall(rf"<{element}>(.*?)</{element}>".encode(), self.body, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(content).digest()).decode()}'" for content in contents) or "'none'"
