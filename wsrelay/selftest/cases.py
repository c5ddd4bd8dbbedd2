"""All cases, in the order in which they are tried.

Must not live here: the cases themselves.
"""

from collections.abc import Collection
from typing import Final

from wsrelay.selftest import (
    compression,
    control,
    delivery,
    endings,
    opening,
    refusals,
    sizes,
    slow,
    violations,
)
from wsrelay.selftest.case import Case

__all__ = ["CASES", "chosen"]

CASES: Final[tuple[Case, ...]] = (
    *opening.CASES,
    *delivery.CASES,
    *sizes.CASES,
    *control.CASES,
    *compression.CASES,
    *violations.CASES,
    *slow.CASES,
    *refusals.CASES,
    *endings.CASES,
)


def chosen(names: Collection[str]) -> tuple[Case, ...]:
    """Return the cases with these names, or in these groups; all without a name.

    Raises:
        ValueError: there is none of a name.
    """
    wanted = {name.lower() for name in names}
    known = {case.name for case in CASES} | {case.group.lower() for case in CASES}
    if unknown := sorted(wanted - known):
        raise ValueError(f"no case or group has the name {', '.join(unknown)}; --list shows them")
    return tuple(case for case in CASES if not wanted or wanted & {case.name, case.group.lower()})
