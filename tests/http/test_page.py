"""Tests of wsrelay.http.page: the policies of pages; the pages are tested in a browser."""

import re
from base64 import b64encode
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.http.page import Page

PAGES = (("wsrelay.http", "demo.html"), ("wsrelay.admin", "status.html"))


class PageTests(SynchronousTestCase):
    """The pages and their policies."""

    def test_policy(self) -> None:
        """Only the page's own script and style may run or load."""
        for package, name in PAGES:
            page = Page(package, name, connect="'self'", images="data:")
            for element in ("script", "style"):
                [content] = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page.body, re.DOTALL)
                digest = b64encode(sha256(content).digest()).decode()
                self.assertIn(f"{element}-src 'sha256-{digest}';", page.policy)
            self.assertTrue(page.policy.startswith("default-src 'none'; "))
            self.assertIn("; connect-src 'self'; img-src data:; ", page.policy)
            self.assertNotIn("unsafe", page.policy)

    def test_self_contained(self) -> None:
        """Pages load no script, style or image from elsewhere."""
        for package, name in PAGES:
            body = Page(package, name, connect="'self'", images="data:").body
            self.assertEqual(
                re.findall(rb"<(?:script|img|iframe)[^>]* src=|<link[^>]* href=\"(?!data:)|@import|url\(", body), []
            )
