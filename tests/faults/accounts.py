"""Accounts of numbered messages: each one of each publisher, at each client of its room. Pure.

Must not live here: clients and sockets (:mod:`tests.faults.talkers`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

#: A message: its publisher, and its number, counted from 1.
Receipt = tuple[str, int]

#: Code and reason of a close frame; ``None``: TCP ended without one.
Close = tuple[int | None, str]


@dataclass
class Account:
    """What one client of a room sent and received.

    Attributes:
        name: the client's, unique in the test.
        sent: the messages that it has sent; their numbers are 1 to this.
        receipts: what it received, in this order.
        highest: publisher → the highest number received.
        close: how its connection ended; ``None`` while it is open.
        late: whether it joined while others were publishing: then it has no claim to earlier messages.
        strange: messages of other rooms, or with other bytes than were sent.
    """

    name: str
    sent: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)
    close: Close | None = None
    late: bool = False
    strange: int = 0

    def receive(self, publisher: str, number: int) -> None:
        """Record a message."""
        self.receipts.append((publisher, number))
        if number > self.highest.get(publisher, 0):
            self.highest[publisher] = number


@dataclass(repr=False)
class Report:
    """The faults in the accounts; all are 0 if there is none.

    Attributes:
        lost: messages that did not reach a client that is still connected.
        doubled: messages that reached a client more than once.
        echoed: messages that reached their publisher.
        out_of_order: messages that reached a client behind a later one of the same publisher.
        other_order: messages that clients of one room received in different orders.
        strange: messages of other rooms, or with other bytes.
    """

    lost: int = 0
    doubled: int = 0
    echoed: int = 0
    out_of_order: int = 0
    other_order: int = 0
    strange: int = 0

    def __repr__(self) -> str:
        """Show the faults only."""
        return f"Report({', '.join(f'{name}={value}' for name, value in vars(self).items() if value)})"

    def __add__(self, other: "Report") -> "Report":
        """Return the sums."""
        return Report(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def published(account: Account, members: Sequence[Account]) -> int:
    """Return how many messages of a client the room must have.

    A client whose connection ended cannot know how many the relay has read; all others must agree on a number.
    """
    if account.close is None:
        return account.sent
    return max((one.highest.get(account.name, 0) for one in members), default=0)


def complete(members: Sequence[Account], *, echo: bool = False) -> bool:
    """Whether each connected client of a room has the last message of each publisher."""
    return all(
        one.highest.get(publisher.name, 0) >= published(publisher, members)
        for one in members
        if one.close is None
        for publisher in members
        if echo or publisher is not one
    )


def audit(
    members: Sequence[Account],
    audited: Sequence[Account] | None = None,
    *,
    echo: bool = False,
    one_order: bool = True,
) -> Report:
    """Return the faults in a room.

    Args:
        members: all its clients, of all nodes.
        audited: the clients that are audited; by default all.
        echo: whether messages must reach their publisher, too.
        one_order: whether all clients must have received the messages in one order.
    """
    audited = members if audited is None else audited
    report = sum((_audit_one(one, members, echo=echo) for one in audited), Report())
    if one_order and audited:
        report.other_order = _other_order(audited, echo=echo)
    return report


def _audit_one(account: Account, members: Sequence[Account], *, echo: bool) -> Report:
    numbers: dict[str, list[int]] = {}
    for publisher, number in account.receipts:
        numbers.setdefault(publisher, []).append(number)
    report = Report(strange=account.strange)
    for publisher in members:
        got = numbers.pop(publisher.name, [])
        if publisher is account and not echo:
            report.echoed += len(got)
        else:
            report += _audit_pair(account, got, published(publisher, members))
    report.strange += sum(map(len, numbers.values()))
    return report


def _audit_pair(account: Account, got: Sequence[int], count: int) -> Report:
    """Audit what a client received of one publisher."""
    first = min(got, default=count + 1) if account.late else 1
    last = count if account.close is None else max(got, default=0)
    seen: set[int] = set()
    report, highest = Report(), 0
    for number in got:
        report.doubled += number in seen
        report.out_of_order += number < highest and number not in seen
        seen.add(number)
        highest = max(highest, number)
    report.lost = sum(number not in seen for number in range(first, last + 1))
    return report


def _other_order(members: Sequence[Account], *, echo: bool) -> int:
    """Count the messages in another order than at the client that received most.

    What only one of two clients has is no matter of order, nor is a second copy.
    """
    orders = [list(dict.fromkeys(one.receipts)) for one in members]
    place = {receipt: at for at, receipt in enumerate(max(orders, key=len))}
    wrong = 0
    for one, order in zip(members, orders, strict=True):
        places = [place[each] for each in order if each in place and (echo or each[0] != one.name)]
        wrong += sum(later < earlier for earlier, later in pairwise(places))
    return wrong


def endings(members: Sequence[Account]) -> Counter[Close]:
    """Count how connections ended; open ones are not counted."""
    return Counter(one.close for one in members if one.close is not None)
