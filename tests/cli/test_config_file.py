"""Tests of wsrelay.cli.config_file."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.config_file import parse


class ParseTests(SynchronousTestCase):
    """Config files."""

    def test_here(self) -> None:
        """``{here}`` is the folder, quoted as the syntax of each option wants it; other values stay as they are."""
        content = b"""
            listen = ["ssl:1:privateKey={here}/key.pem"]
            admin = "unix:{here}/admin"
            validate = ["token:key={here}/relay.key,algorithm=HS256"]
            log-file = "{here}/{here}.log"
            max-rooms = 7
            echo = true
        """
        self.assertEqual(
            parse(content, r"/a,b:c=d\e"),
            {
                "listen": [r"ssl:1:privateKey=/a,b\:c\=d\\e/key.pem"],
                "admin": r"unix:/a,b\:c\=d\\e/admin",
                "validate": [r"token:key=/a\,b:c=d\\e/relay.key,algorithm=HS256"],
                "log-file": r"/a,b:c=d\e//a,b:c=d\e.log",
                "max-rooms": 7,
                "echo": True,
            },
        )

    def test_wrong(self) -> None:
        """What is not UTF-8, or not TOML, is refused."""
        for content in (b"\xff", b"a = \n"):
            self.assertRaises(ValueError, parse, content, "/")
