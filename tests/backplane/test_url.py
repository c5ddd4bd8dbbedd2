"""Tests of wsrelay.backplane.url."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.url import Address, Host, Password, parse, password

#: URL → what it means.
ADDRESSES = {
    "redis://broker": Address("redis", (Host("broker", 6379),)),
    "redis://broker/": Address("redis", (Host("broker", 6379),)),
    "redis://me@broker:1/2": Address("redis", (Host("broker", 1),), database=2, user="me"),
    "redis://m%3Ae%40@a,b:7,[::1],[fe80::1]:8": Address(
        "redis", (Host("a", 6379), Host("b", 7), Host("::1", 6379), Host("fe80::1", 8)), user="m:e@"
    ),
    "redis://a?prefix=x:y&shards=16": Address("redis", (Host("a", 6379),), prefix="x:y", shards=16),
    "rediss://a?ca=/c%40.pem": Address("rediss", (Host("a", 6379),), ca="/c@.pem"),
    "rediss://a?cert=b.pem": Address("rediss", (Host("a", 6379),), cert="b.pem", key="b.pem"),
    "rediss://a?cert=b&key=c": Address("rediss", (Host("a", 6379),), cert="b", key="c"),
    "redis+unix:///run/redis.sock?db=3": Address("redis+unix", path="/run/redis.sock", database=3),
    "redis+unix://me@/a%20b": Address("redis+unix", path="/a b", user="me"),
    "redis+sentinel://me@s1,s2:5/mymaster": Address(
        "redis+sentinel", (Host("s1", 26379), Host("s2", 5)), master="mymaster", user="me"
    ),
    "rediss+sentinel://s1/mymaster/4?ca=c": Address(
        "rediss+sentinel", (Host("s1", 26379),), master="mymaster", database=4, ca="c"
    ),
}

#: Wrong URL → a part of the text about it.
WRONG = {
    "": "must start with redis://, rediss://, redis+unix://, redis+sentinel://",
    "broker:6379": "must start with",
    "http://broker": "must start with",
    "redis://": "a host is written host:port",
    "redis://a,": "a host is written host:port",
    "redis://a b": "a host is written host:port",
    "redis://-a": "a host is written host:port",
    "redis://::1": "an IPv6 address [::1]:port",
    "redis://[::1": "an IPv6 address [::1]:port",
    "redis://[1:2]": "an IPv6 address [::1]:port",
    "redis://[x]": "an IPv6 address [::1]:port",
    "redis://a:": "the port must be a number from 1 to 65535",
    "redis://a:0": "the port must be a number from 1 to 65535",
    "redis://a:65536": "the port must be a number from 1 to 65535",
    "redis://a/x": "the database must be a number from 0 to 65535",
    "redis://a/-1": "the database must be a number",
    "redis://a/\N{SUPERSCRIPT TWO}": "the database must be a number",
    "redis://a/1/2": "only the number of the database",
    "redis://a?db=1": "behind ? may stand, with a value: prefix=, shards=",
    "redis://a?ca=x": "behind ? may stand, with a value: prefix=, shards=",
    "redis://a?prefix=": "behind ? may stand, with a value",
    "redis://a?prefix": "behind ? may stand, with a value",
    "redis://a?prefix=a&prefix=b": "may be given once",
    "redis://a?prefix={a}": "prefix= must have",
    "redis://a?prefix=a*": "prefix= must have",
    "redis://a?shards=0": "shards= must be a number from 1 to 16384",
    "redis://a?shards=20000": "shards= must be a number from 1 to 16384",
    "rediss://a?key=k": "key= needs cert=",
    "redis+unix://a/path": "redis+unix:///path/of/socket",
    "redis+unix:///": "redis+unix:///path/of/socket",
    "redis+unix:///a?db=x": "db= must be a number",
    "redis+sentinel://s1": "redis+sentinel://sentinel:26379/mymaster",
    "redis+sentinel://s1/my master": "the name of the master",
    "redis+sentinel://s1/m/0/1": "only the number of the database",
}

#: URLs with the password "geheim" where users put it.
WITH_PASSWORD = [
    "redis://:geheim@a",
    "redis://me:geheim@a:6379/0",
    "redis://me:geheim/x@a",
    "redis://me:geheim?x@a",
    "redis://me:geh#eim@x@a",
    "redis://a?password=geheim",
    "redis://a?auth=geheim",
    "redis+unix:///a?pass=geheim",
    "redis+sentinel://me:geheim@s/m",
]


class AddressTests(SynchronousTestCase):
    """URLs."""

    def test_parse(self) -> None:
        """Every form of URL, with its defaults."""
        for text, address in ADDRESSES.items():
            self.assertEqual(parse(text), address, text)

    def test_str(self) -> None:
        """The text of an address is a URL that means the same; options with their defaults are left out."""
        for address in ADDRESSES.values():
            self.assertEqual(parse(str(address)), address)
        self.assertEqual(str(parse("redis://me@a?shards=1")), "redis://me@a:6379/0")
        self.assertEqual(str(parse("redis+unix:///a%20b?shards=2&db=1")), "redis+unix:///a%20b?shards=2&db=1")

    def test_wrong(self) -> None:
        """The text about a wrong URL says what to write."""
        for text, problem in WRONG.items():
            self.assertIn(problem, str(self.assertRaises(ValueError, parse, text)), text)

    def test_password_in_url(self) -> None:
        """A password is refused, and not quoted, wherever it stands."""
        for text in WITH_PASSWORD:
            problem = str(self.assertRaises(ValueError, parse, text))
            self.assertIn("--backplane-password-file", problem)
            self.assertNotIn("geh", problem)

    @given(st.text(), st.sampled_from(["redis", "rediss", "redis+unix", "redis+sentinel"]))
    def test_any_text(self, text: str, scheme: str) -> None:
        """Any text is a URL, which has the same text again, or is refused with ValueError."""
        try:
            address = parse(f"{scheme}://{text}")
        except ValueError:
            return
        self.assertEqual(parse(str(address)), address)

    def test_shards(self) -> None:
        """Brokers take turns; the key of the stream has the shard's number as hash tag."""
        address = parse("redis://a,b:1?shards=3&prefix=x")
        self.assertEqual([str(address.host(shard)) for shard in range(3)], ["a:6379", "b:1", "a:6379"])
        self.assertEqual(address.stream(2), "x:{2}:log")
        self.assertEqual(str(Host("::1", 1)), "[::1]:1")

    def test_is_tls(self) -> None:
        """Schemes with two s are encrypted."""
        self.assertTrue(parse("rediss+sentinel://a/m").is_tls)
        self.assertFalse(parse("redis+sentinel://a/m").is_tls)


class PasswordTests(SynchronousTestCase):
    """Password files."""

    def setUp(self) -> None:
        """Make a folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "password")

    def test_first_line(self) -> None:
        """The password is the first line, without its end, and without a byte order mark."""
        for content in (b"geheim", b"geheim\n", b"geheim\r\nmore\n", b"\xef\xbb\xbfgeheim\n"):
            self.file.write_bytes(content)
            self.assertEqual(password(self.file).reveal(), b"geheim")

    def test_wrong_file(self) -> None:
        """The text about a wrong file names it and says what is wrong."""
        self.assertRaisesRegex(ValueError, r"password: No such file", password, str(self.file))
        for content in (b"", b"\n", b"\ngeheim"):
            self.file.write_bytes(content)
            self.assertRaisesRegex(ValueError, r"password: the first line is empty", password, self.file)
        self.file.write_text("geheim", "utf-16")
        self.assertRaisesRegex(ValueError, r"password: this is UTF-16", password, self.file)

    def test_hidden(self) -> None:
        """Neither repr nor str shows it."""
        hidden = Password(b"geheim")
        self.assertEqual(f"{hidden} {hidden!r}", "Password(hidden) Password(hidden)")
