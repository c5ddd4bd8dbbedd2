"""Pages: each one file, with its style and its script inside, and a policy that lets nothing else run."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

__all__ = ["Page"]


class Page:
    """A page.

    Args:
        package: the package that holds its file.
        name: the name of that file.
        connect: where its script may connect to, as sources of a Content-Security-Policy.
        images: where its images may come from.

    Attributes:
        body: the page.
        content_type: what it is.
        policy: its Content-Security-Policy: only this style and this script, named by their hashes.
    """

    content_type = "text/html; charset=utf-8"

    def __init__(self, package: str, name: str, *, connect: str, images: str) -> None:
        self.body = files(package).joinpath(name).read_bytes()
        self.policy = "; ".join(
            [
                "default-src 'none'",
                f"script-src {_hashes(self.body, 'script')}",
                f"style-src {_hashes(self.body, 'style')}",
                f"connect-src {connect}",
                f"img-src {images}",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )


def _hashes(page: bytes, element: str) -> str:
    """Return the hashes of what is in all elements of a kind. Source: CSP Level 3, section 2.3.1."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(content).digest()).decode('ascii')}'" for content in contents)
