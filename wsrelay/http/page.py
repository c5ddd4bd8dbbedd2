"""HTML pages: one file each, style and script inside, and a Content-Security-Policy that allows these only.

Must not live here: which URL serves a page (:mod:`wsrelay.http.site`, :mod:`wsrelay.admin.views`).
"""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from wsrelay.http.responses import content_policy

__all__ = ["Page"]


class Page:
    """A page.

    Args:
        package: the package that holds the file.
        name: the name of the file.
        connect: Content-Security-Policy sources that the script may connect to.
        images: the same for images.

    Attributes:
        body: the file's bytes.
        content_type: its media type.
        policy: its Content-Security-Policy: only this style and this script, named by their hashes.
    """

    content_type = "text/html; charset=utf-8"

    def __init__(self, package: str, name: str, *, connect: str, images: str) -> None:
        self.body = files(package).joinpath(name).read_bytes()
        self.policy = content_policy(
            f"script-src {_hashes(self.body, 'script')}",
            f"style-src {_hashes(self.body, 'style')}",
            f"connect-src {connect}",
            f"img-src {images}",
        )


def _hashes(page: bytes, element: str) -> str:
    """Return the CSP hashes of the contents of all elements of a kind. Source: CSP Level 3, section 2.3.1."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(content).digest()).decode('ascii')}'" for content in contents)
