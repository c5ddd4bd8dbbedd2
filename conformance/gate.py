"""Decide whether the report of a wstest run is a pass.

Lives here: which cases there are, which verdict each must have, and the words for what is wrong. Must not
live here: processes, sockets, printing, or any file but the report's index.

wstest exits with 0 whatever happened, and its index holds only the cases that it came to run. So the gate
compares the exact set of cases, and accepts one exact verdict for each.

Sequence: ``quick(parse_cases(text))`` or ``select(...)`` gives the expected cases, ``read_index(path)``
what was found, ``check(index, expected)`` a `Result`; that has ``passed``, ``summary()`` and ``faults()``.
"""

import fnmatch
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

#: Cases whose outcome RFC 6455 leaves open: the suite gives both verdicts as INFORMATIONAL, whatever the
#: server does.
INFORMATIONAL_CASES = frozenset({"7.1.6", "7.13.1", "7.13.2"})

#: Sections on permessage-deflate: most of the time of a run, left out of a quick one.
COMPRESSION_SECTIONS = ("12", "13")

OK = "OK"
INFORMATIONAL = "INFORMATIONAL"

#: The index of a report: server name → case id → entry.
Index = dict[str, dict[str, dict[str, object]]]

#: Columns at which a list of cases is wrapped.
WIDTH = 110


@dataclass(frozen=True)
class Verdict:
    """What wstest says of one case.

    Attributes:
        case: the id, such as ``7.1.6``.
        behavior: the verdict on the frames of the case.
        behavior_close: the verdict on how the connection ended.
        report_file: file name of the case's own report, in the folder of the index.
    """

    case: str
    behavior: str
    behavior_close: str
    report_file: str

    @property
    def right(self) -> bool:
        """Whether both verdicts are the one that this case must have."""
        wanted = INFORMATIONAL if self.case in INFORMATIONAL_CASES else OK
        return self.behavior == self.behavior_close == wanted


@dataclass(frozen=True)
class Result:
    """The outcome of the gate.

    Attributes:
        expected: how many cases there should be.
        right: verdicts as they must be, in the order of the cases.
        wrong: verdicts other than that, in the order of the cases.
        missing: expected cases that the report does not have.
        extra: cases of the report that are not expected.
    """

    expected: int
    right: tuple[Verdict, ...]
    wrong: tuple[Verdict, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the report has exactly the expected cases, at least one, each with its right verdict."""
        return 0 < self.expected == len(self.right) and not (self.wrong or self.missing or self.extra)

    def summary(self) -> str:
        """Say the counts in one line, such as ``514 OK, 3 INFORMATIONAL of 517``."""
        informational = sum(verdict.behavior == INFORMATIONAL for verdict in self.right)
        counts = [(len(self.right) - informational, OK), (informational, INFORMATIONAL)]
        faults = [(len(self.wrong), "wrong"), (len(self.missing), "missing"), (len(self.extra), "extra")]
        parts = counts + [part for part in faults if part[0]]
        return ", ".join(f"{count} {word}" for count, word in parts) + f" of {self.expected}"

    def faults(self, folder: Path) -> list[str]:
        """Name every wrong, missing and extra case.

        Args:
            folder: where the report is; put before the file names of the cases' own reports.

        Returns:
            Lines to print, none when the gate is passed: one for each wrong case, a wrapped list for the
            others.
        """
        lines = [
            f"wrong {verdict.case}: behavior {verdict.behavior}, behaviorClose {verdict.behavior_close}, "
            f"see {folder / verdict.report_file}"
            for verdict in self.wrong
        ]
        return lines + _listed("missing", self.missing) + _listed("extra", self.extra)


def _listed(word: str, cases: tuple[str, ...]) -> list[str]:
    """Name the cases after a word, wrapped; nothing when there are none."""
    text = f"{word}: {' '.join(cases)}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ") if cases else []


def parse_cases(text: str) -> list[str]:
    """Read a list of cases: one id a line; empty lines and those that begin with ``#`` are left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def quick(cases: list[str]) -> list[str]:
    """Leave out the sections on compression."""
    return [case for case in cases if case.split(".")[0] not in COMPRESSION_SECTIONS]


def select(cases: list[str], pattern: str) -> list[str]:
    """Keep the cases whose whole id matches a shell pattern: ``7.*`` is section 7, ``7.1.6`` one case."""
    return [case for case in cases if fnmatch.fnmatchcase(case, pattern)]


def read_index(path: Path) -> Index:
    """Read the index that wstest wrote: server name → case id → entry.

    Returns:
        An empty dictionary when there is no such file: no report has no cases.

    Raises:
        ValueError: the file is not JSON, as when wstest was stopped while it wrote.
    """
    if not path.exists():
        return {}
    index: Index = json.loads(path.read_text(encoding="utf-8"))
    return index


def verdicts(index: Index) -> dict[str, Verdict]:
    """Take the verdicts out of an index, by case id.

    Raises:
        ValueError: the index is about more than one server, so a case would have more than one verdict.
    """
    if len(index) > 1:
        raise ValueError(f"the report is about {len(index)} servers, not one: {', '.join(sorted(index))}")
    return {case: _verdict(case, entry) for cases in index.values() for case, entry in cases.items()}


def _verdict(case: str, entry: dict[str, object]) -> Verdict:
    """Make one verdict of an entry; what the entry lacks becomes ``absent``, which is never right."""
    words = [str(entry.get(key, "absent")) for key in ("behavior", "behaviorClose", "reportfile")]
    return Verdict(case, *words)


def check(index: Index, expected: list[str]) -> Result:
    """Compare a report with the cases that it should have.

    Raises:
        ValueError: the index is about more than one server.
    """
    found = verdicts(index)
    present = [found[case] for case in expected if case in found]
    return Result(
        expected=len(expected),
        right=tuple(verdict for verdict in present if verdict.right),
        wrong=tuple(verdict for verdict in present if not verdict.right),
        missing=tuple(case for case in expected if case not in found),
        extra=tuple(sorted(set(found) - set(expected))),
    )
