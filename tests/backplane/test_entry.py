"""Tests of wsrelay.backplane.entry."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import EMPTY, Entry, Id, Record, pack, parse, unpack

RECORDS = st.lists(st.builds(Record, st.text(), st.binary(), st.integers(1, 2**40), st.text()))


def read(entry: Entry) -> Entry:
    """Return an entry as a reader gets it from the broker."""
    return parse([field if isinstance(field, bytes) else str(field).encode() for field in entry.fields()])


class EntryTests(SynchronousTestCase):
    """The fields of an entry."""

    def test_fields_of_a_plain_entry(self) -> None:
        """Node, seq and blob, and no more."""
        self.assertEqual(Entry("a", 12, b"x").fields(), ["n", "a", "s", 12, "m", b"x"])

    def test_fields_of_a_marked_entry(self) -> None:
        """An entry that is sent again has its age in ms, rounded down; the last one has b; with an epoch there is e."""
        fields = Entry("a", 12, b"x", age_seconds=1.2349, bye=True).fields()
        self.assertEqual(fields[6:], ["r", 1234, "b", 1])
        self.assertEqual(Entry("a", 12, b"x", epoch="0000000z").fields()[6:], ["e", "0000000z"])
        self.assertEqual(Entry("a", 12, b"x", age_seconds=-1.0).fields()[6:], ["r", 0])

    def test_parse_returns_the_entry(self) -> None:
        """All fields come back."""
        for entry in (Entry("a", 1, b""), Entry("ä", 2**50, b"\xff", 1.25, True), Entry("a", 3, b"x", 0.0)):
            self.assertEqual(read(entry), entry)
        entry = Entry("a", 1, b"", epoch="0000000z")
        self.assertEqual(read(entry), entry)

    def test_parse_other_epochs(self) -> None:
        """An epoch of a later version counts as none."""
        for text in (b"", b"0000000", b"000000000", b"0000000u", b"0000000\xff"):
            self.assertEqual(parse([b"n", b"a", b"s", b"7", b"m", b"x", b"e", text]), Entry("a", 7, b"x"))

    def test_parse_ignores_unknown_fields(self) -> None:
        """A newer node may add fields, in any order."""
        self.assertEqual(parse([b"z", b"?", b"m", b"x", b"s", b"7", b"n", b"a"]), Entry("a", 7, b"x"))

    def test_parse_refuses_malformed_fields(self) -> None:
        """A missing or malformed field is a ValueError, never another exception."""
        good = [b"n", b"a", b"s", b"7", b"m", b"x"]
        for wrong in (
            [],
            good[2:],
            good[:4],
            good[:-1],
            [b"n", b"\xff", *good[2:]],
            *([*good[:3], seq, *good[4:]] for seq in (b"", b"0", b"-1", b" 1", b"1_0", b"x", b"9" * 19)),
            [*good, b"r", b"old"],
        ):
            with self.assertRaises(ValueError, msg=str(wrong)):
                parse(wrong)

    @given(st.lists(st.one_of(st.sampled_from([b"n", b"s", b"m", b"r", b"b", b"1"]), st.binary(max_size=3))))
    def test_parse_raises_value_errors_only(self, fields: list[bytes]) -> None:
        """Any fields are an entry or a ValueError."""
        try:
            entry = parse(fields)
        except ValueError:
            return
        self.assertEqual(read(entry), entry)


class BlobTests(SynchronousTestCase):
    """The messages of an entry."""

    @given(RECORDS)
    def test_unpack_returns_what_was_packed(self, records: list[Record]) -> None:
        """Rooms, frames and counts are unchanged."""
        self.assertEqual(unpack(pack(records)), records)

    def test_heartbeat_has_no_messages(self) -> None:
        """EMPTY is a blob without messages."""
        self.assertEqual(unpack(EMPTY), [])

    def test_unpack_refuses_other_types(self) -> None:
        """Wrong types and counts, cut blobs and trailing bytes are ValueErrors."""
        good = pack([Record("x", b"frame", 1)])
        wrong = [
            b"",
            good[:-1],
            good + b"\xc0",
            b"\x93\x01\x02\x03",
            pack([Record("x", b"", 0)]),
            b"\x91\x93\xa1\xff\xc4\0\1",
        ]
        for blob in wrong:
            with self.assertRaises(ValueError, msg=str(blob)):
                unpack(blob)

    def test_later_versions(self) -> None:
        """A record that a later version has made longer is read; its other elements are ignored."""
        self.assertEqual(unpack(b"\x91\x95\xa1x\xc4\x01y\x01\xa1h\x2a"), [Record("x", b"y", 1, "h")])
        self.assertEqual(unpack(b"\x91\x93\xa1x\xc4\x01y\x01"), [Record("x", b"y", 1)])

    @given(st.binary())
    def test_unpack_raises_value_errors_only(self, blob: bytes) -> None:
        """Any bytes are messages or a ValueError."""
        try:
            records = unpack(blob)
        except ValueError:
            return
        self.assertEqual(unpack(pack(records)), records)


class IdTests(SynchronousTestCase):
    """Ids of the broker."""

    def test_parse_and_str(self) -> None:
        """An id is written as it was read."""
        entry_id = Id.parse(b"1700000000000-12")
        self.assertEqual(entry_id, Id(1700000000000, 12))
        self.assertEqual(str(entry_id), "1700000000000-12")

    def test_parse_refuses_other_texts(self) -> None:
        """Two numbers with a dash, or a ValueError."""
        for text in (b"", b"1", b"1-", b"-1", b"1-x", b"1-2-3", b"$", b"1--2"):
            with self.assertRaises(ValueError, msg=str(text)):
                Id.parse(text)

    def test_order(self) -> None:
        """Ids are compared as the broker does."""
        self.assertLess(Id(9, 5), Id(10, 0))
        self.assertLess(Id(10, 9), Id(10, 10))

    def test_behind(self) -> None:
        """The next id that the broker could give, and how much later an id was given."""
        self.assertEqual(Id(5000, 7).behind, Id(5000, 8))
        self.assertEqual(Id(5000, 7).seconds_behind(Id(3500, 9)), 1.5)

    def test_earlier(self) -> None:
        """The first id of an earlier millisecond, at least 0-0."""
        self.assertEqual(Id(5000, 7).earlier(1.5), Id(3500, 0))
        self.assertEqual(Id(5000, 7).earlier(60), Id(0, 0))
