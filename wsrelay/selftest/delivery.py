"""Cases: who gets a message, and what of it.

The absence of a message is shown by a later one, of another member, and by a pong. Must not live here: sizes
(:mod:`wsrelay.selftest.sizes`), members that do not read (:mod:`wsrelay.selftest.slow`).
"""

from typing import Final

from wsrelay.closecodes import NORMAL
from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import Message
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import Differs, Fails, Skipped

__all__ = ["CASES"]

#: One character of each plane that has any, the first and last ones of all lengths in UTF-8, and a byte order mark.
_PLANES: Final = "\ufeffA\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff" + "".join(
    chr(plane * 0x10000 + 0x61) + chr(plane * 0x10000 + 0xFFFF) for plane in range(1, 17)
)

#: Name → message; those that software mistreats.
_PAYLOADS: Final[dict[str, str | bytes]] = {
    "text": "grüße, 世界 👋",
    "binary": bytes(range(256)),
    "empty text": "",
    "empty binary": b"",
    "NUL in text": "\0a\0",
    "NUL in binary": b"\0\0\0",
    "text of all planes": _PLANES,
    "binary that is UTF-8": "grüße".encode(),
    "text with line ends": "a\r\nb\nc\rd\n\n",
    "text with white space around": "  a \t ",
    "text like JSON": '{"type":"close","a":[1,2,null]}',
    "text like markup": "<b>&amp;</b>",
}

#: Messages of each publisher in a batch.
_BATCH: Final = 50


async def _everyone_else(lab: Lab) -> str:
    publisher, *listeners = await lab.joined("publisher", "first listener", "second listener", "third listener")
    publisher.say("hello")
    for listener in listeners:
        _same(await listener.hear(), "hello", listener.who)
    return "3 of 3 got it"


async def _others_only(lab: Lab) -> str:
    publisher, other = await lab.joined("publisher", "other member")
    publisher.say("mine")
    _same(await other.hear(), "mine", other.who)
    other.say("barrier")
    before = await publisher.hear_until("barrier") + await publisher.pong(publisher.ping())
    if before:
        raise Differs("the publisher got its own message")
    return "the publisher did not get it"


async def _rooms(lab: Lab) -> str:
    if lab.target.room is not None:
        raise Skipped("--room names one room")
    elsewhere = lab.target.new_room()
    here = await lab.joined("publisher", "listener")
    there = [(await lab.join(name, room=elsewhere))[0] for name in ("other room's member", "other room's publisher")]
    for member in there:
        await member.pong(member.ping())
    here[0].say("here")
    _same(await here[1].hear(), "here", here[1].who)
    there[1].say("there")
    before = await there[0].hear_until("there")
    after = await here[1].pong(here[1].ping())
    if before or after:
        raise Fails("a message reached the members of another path", "the path is not the room")
    return "another path did not get it"


async def _unchanged(lab: Lab) -> str:
    publisher, listener = await lab.joined("publisher", "listener")
    wrong = []
    for number, (name, payload) in enumerate(_PAYLOADS.items()):
        publisher.say(payload)
        publisher.say(barrier := f"barrier {number}")
        heard = await listener.hear_until(barrier)
        if difference := _difference(heard, payload):
            wrong.append(f"{name} {difference}")
    if wrong:
        raise Fails("; ".join(wrong))
    return f"{len(_PAYLOADS)} of {len(_PAYLOADS)} are equal, type included: {', '.join(list(_PAYLOADS)[:4])} …"


def _difference(heard: list[Message], payload: str | bytes) -> str:
    """Return how what was heard differs from a message; empty if it does not."""
    if not heard:
        return "did not arrive"
    if len(heard) > 1:
        return f"arrived as {len(heard)} messages"
    is_text = isinstance(payload, str)
    if heard[0].is_text != is_text:
        return "arrived as binary" if is_text else "arrived as text"
    return "" if heard[0].payload == _bytes(payload) else "arrived changed"


async def _order(lab: Lab) -> str:
    first, second, *listeners = await lab.joined("first publisher", "second publisher", "listener", "other listener")
    orders: dict[str, list[bytes]] = {listener.who: [] for listener in listeners}
    for batch in range(lab.bounds.batches):
        for number in range(batch * _BATCH, (batch + 1) * _BATCH):
            first.say(f"first {number}")
            second.say(f"second {number}")
        for listener in listeners:
            orders[listener.who] += [(await listener.hear()).payload for _ in range(2 * _BATCH)]
        for publisher, other in ((first, "second"), (second, "first")):
            await publisher.hear_until(f"{other} {(batch + 1) * _BATCH - 1}")
    total = lab.bounds.batches * _BATCH
    for who, order in orders.items():
        for name in (b"first", b"second"):
            _check_order([each for each in order if each.startswith(name)], name.decode(), total, who)
    one, other_one = orders.values()
    if one != other_one:
        raise Differs(f"two members saw {2 * total} messages of two publishers in different orders")
    return f"{2 * total} messages of 2 publishers, in one order at 2 members"


def _check_order(order: list[bytes], name: str, total: int, who: str) -> None:
    expected = [f"{name} {number}".encode() for number in range(total)]
    if order == expected:
        return
    kind = "reordered" if sorted(order) == sorted(expected) else "lost or doubled"
    raise Fails(f"messages of the {name} publisher were {kind} at the {who}")


async def _join_and_leave(lab: Lab) -> str:
    publisher, leaver, listener = await lab.joined("publisher", "leaver", "listener")
    leaver.begin_close(NORMAL)
    await leaver.end()
    (newcomer,) = await lab.joined("newcomer")
    publisher.say("after")
    for member in (listener, newcomer):  # which may get what was said before: a history
        await member.hear_until("after")
    return "the others go on, a newcomer gets what comes next"


def _same(heard: Message, payload: str | bytes, who: str) -> None:
    if heard != Message(_bytes(payload), isinstance(payload, str), heard.frames, heard.is_compressed):
        raise Fails(f"the {who} got another message than was said: {heard.payload[:40]!r}")


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


CASES: Final = (
    Case(
        "everyone-else",
        "Delivery",
        "a message reaches everyone else in the room",
        "promise 1",
        "members miss what others say",
        _everyone_else,
    ),
    Case(
        "others-only",
        "Delivery",
        "the publisher does not get its own message",
        "promise 1",
        "it echoes to the sender: clients have to recognise their own messages",
        _others_only,
    ),
    Case(
        "rooms",
        "Delivery",
        "another path is another room",
        "promise 1",
        "clients hear what is not for them",
        _rooms,
    ),
    Case(
        "unchanged",
        "Delivery",
        "payload and type arrive as they were sent, whatever they are",
        "promise 2",
        "clients get other messages than were sent, or fewer",
        _unchanged,
    ),
    Case(
        "order",
        "Delivery",
        "all members see the messages of all publishers in one order",
        "promise 3",
        "members that apply the same updates may end in different states",
        _order,
    ),
    Case(
        "join-and-leave",
        "Delivery",
        "members come and go while the others go on",
        "promise 6",
        "who joins or leaves disturbs the others",
        _join_and_leave,
    ),
)
