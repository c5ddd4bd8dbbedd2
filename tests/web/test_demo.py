"""Tests of wsrelay.web.demo: what the response says of the page; the page itself is tested in a browser."""

import re
from base64 import b64encode
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.web.demo import Page


class PageTests(SynchronousTestCase):
    """The page and its policy."""

    def setUp(self) -> None:
        self.page = Page()
        self.policy = dict(self.page.fields)["Content-Security-Policy"]

    def test_policy(self) -> None:
        """Nothing may run or be loaded but the one script and the one style that are in it."""
        for element in ("script", "style"):
            [content] = re.findall(rf"<{element}>(.*?)</{element}>".encode(), self.page.body, re.DOTALL)
            digest = b64encode(sha256(content).digest()).decode()
            self.assertIn(f"{element}-src 'sha256-{digest}';", self.policy)
        self.assertTrue(self.policy.startswith("default-src 'none'; "))
        self.assertNotIn("unsafe", self.policy)

    def test_self_contained(self) -> None:
        """It names no other place: no link, no import, no image from anywhere."""
        self.assertEqual(re.findall(rb"(?:src|href)=\"(?!data:)|@import|url\(", self.page.body), [])

    def test_a_page_without_a_script(self) -> None:
        """Where there is no script, none may run."""
        self.page.body = b"<p>"
        self.assertEqual(self.page._hashes("script"), "'none'")
