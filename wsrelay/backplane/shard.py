"""Shard: one stream of the broker, as this process uses it: its state, its two connections, outage and return.

Two connections, one that sends and one that reads, because the reader waits in ``XREAD``. They are used as a pair: if
one is lost or answers with an error, or an answer is late, both are given up, and a new pair is opened.

Must not live here: how a pair is opened (:mod:`wsrelay.backplane.redis_link`), sending and reading
(:mod:`wsrelay.backplane.sender`, :mod:`wsrelay.backplane.tail`), rooms (:mod:`wsrelay.backplane.redis`).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsrelay.backplane.context import Relay
from wsrelay.backplane.epochs import START_PLACE, Epochs
from wsrelay.backplane.held import Held
from wsrelay.backplane.outbox import Outbox
from wsrelay.backplane.placer import Placer
from wsrelay.backplane.redis_errors import NoBroker, RedisError, of_failure, of_reply
from wsrelay.backplane.redis_link import Incarnation, Pair
from wsrelay.backplane.redis_protocol import Argument, Reply
from wsrelay.backplane.sender import HEARTBEAT_SECONDS, Sender
from wsrelay.backplane.state import State, announce
from wsrelay.backplane.survey import START, Survey, take_survey
from wsrelay.backplane.tail import Tail
from wsrelay.backplane.trimmer import Trimmer
from wsrelay.backplane.waiting import Waiting
from wsrelay.errors import BackplaneDown
from wsrelay.logs.failures import log_failure
from wsrelay.message_id import MessageId
from wsrelay.names import PROBE_ROOM
from wsrelay.rooms.timeline import Timeline

__all__ = ["Shard"]

_log = Logger(namespace="wsrelay")

#: Seconds between two looks at deadlines.
TICK_SECONDS: Final = 0.5

#: An answer of the broker that takes longer is late: XREAD waits for a second at most.
REPLY_SECONDS: Final = 3.0

#: An own entry that the broker has acknowledged must be read back within this time; else the two connections do not
#: reach the same broker.
READ_BACK_SECONDS: Final = 5.0

#: The shortest and the longest time before a new attempt to connect.
RETRY_SECONDS: Final = (0.05, 2.0)

#: The longest wait for the broker at the end.
STOP_SECONDS: Final = 1.0


class Shard:
    """One stream.

    Args:
        relay: this process.
        node: names this object in entries; never used again.
        key: of the stream.
        timeline: of its rooms.
        connect: opens a pair.
        is_mine: whether a room's messages are in this stream.
        call_soon: calls a function at the end of this reactor turn.
        changed: called when :attr:`held` changes its mind about holding publishers.

    Attributes:
        state: see :class:`State`.
        problem: why it does not deliver; empty while it is up.
        publish: sends a run; see :meth:`wsrelay.interfaces.Backplane.publish`.
        outbox: what was published and may have to be sent again.
        held: the publishers that wait.
        tail: the reader.
    """

    def __init__(
        self,
        relay: Relay,
        node: str,
        key: str,
        timeline: Timeline,
        connect: Callable[[], Deferred[Pair]],
        *,
        is_mine: Callable[[str], bool],
        call_soon: Callable[[Callable[[], None]], object],
        changed: Callable[[], None],
    ) -> None:
        self._relay, self._key, self._connect, self._is_mine = relay, key, connect, is_mine
        self._stats = relay.stats.backplane
        self.outbox = Outbox(node)
        self.held = Held(relay.settings, relay.reactor, changed)
        self._epochs = Epochs(timeline)
        self._waiting = Waiting(timeline, relay.reactor.seconds)
        self._sender, self.tail = self._ways(node, timeline, call_soon)
        self._trimmer = Trimmer(key, self.tail, relay, self.ask, self._refused)
        self.publish = self._sender.publish
        self.state, self.problem = State.CONNECTING, "not connected to the broker yet"
        self._since = self._ticked_at = relay.reactor.seconds()
        #: Since when the answers are awaited with which a pair begins; infinite: none is.
        self._asked_at = math.inf
        self._pair: Pair | None = None
        self._opening: Deferred[Pair] | None = None
        #: The broker that was used last, and where.
        self._incarnation: Incarnation | None = None
        self._served_by = ""
        #: The own entry that proves the path, once it is read back; infinite: none is sent yet on this pair.
        self._proof = math.inf
        self._attempts = 0
        self._finished: Deferred[None] | None = None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = relay.reactor

    def _ways(
        self, node: str, timeline: Timeline, call_soon: Callable[[Callable[[], None]], object]
    ) -> tuple[Sender, Tail]:
        """Make the way to the stream, and the way from it."""
        sender = Sender(
            self._key,
            self.outbox,
            self._epochs,
            self._stats,
            seconds=self._relay.reactor.seconds,
            call_soon=call_soon,
            settle=self._settle,
            failed=self._refused,
        )
        tail = Tail(
            self._key,
            node,
            self.outbox,
            self._relay,
            Placer(node, self.outbox, self._epochs, timeline, self._relay, self._is_mine),
            is_mine=self._is_mine,
            came_back=self._came_back,
            delivered=self._answer_ahead,
            failed=self._refused,
        )
        return sender, tail

    # --- for the backplane --------------------------------------------------------------------------

    def start(self) -> None:
        """Connect."""
        self._ticking.start(TICK_SECONDS, now=False)
        self._open()

    def enter(self, since: MessageId | None = None) -> Deferred[None] | None:
        """See :meth:`wsrelay.interfaces.Backplane.enter`."""
        is_up = self.state is State.UP or self.state is State.INTERRUPTED
        if not is_up and self.state is not State.CONNECTING:
            raise BackplaneDown
        return self._waiting.enter(since, is_up=is_up)

    def check(self) -> None:
        """See :meth:`wsrelay.interfaces.Backplane.check`."""
        if self.state is not State.UP and self.state is not State.INTERRUPTED:
            raise BackplaneDown
        if self._on_the_way >= self._relay.settings.backplane_pending_bytes:
            raise BackplaneDown("the broker does not keep up: try again later", 1)

    @property
    def lag_seconds(self) -> float:
        """For how long the oldest own entry has not come back."""
        since = [self._sender.sent_at] if self._sender.is_waiting else []
        if self.outbox.unread_since is not None:
            since.append(self.outbox.unread_since)
        if self._pair is None and self.state is not State.CONNECTING:
            since.append(self._since)
        return self._relay.reactor.seconds() - min(since) if since else 0.0

    async def stop(self) -> None:
        """See :meth:`wsrelay.interfaces.Backplane.stop`."""
        if self._pair is not None or self.outbox.pending_bytes:  # a new pair may come in time
            self._finished = Deferred()
            timer = self._relay.reactor.callLater(STOP_SECONDS, self._finish)
            self.outbox.bye()
            self._sender.send()
            await self._finished
            if timer.active():
                timer.cancel()
        self.close()
        if self.outbox.pending_bytes:
            _log.warn("backplane: the last {count} bytes could not be published", count=self.outbox.pending_bytes)

    def close(self) -> None:
        """End now."""
        self._become(State.CLOSED, "closed")
        if self._ticking.running:
            self._ticking.stop()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        self._end_pair()
        self._waiting.refuse()

    def ask(self, *command: Argument) -> Deferred[Reply]:
        """Send a command that concerns no message.

        Returns:
            The reply; ``None`` at once where there is no connection. It never comes if the connection is lost.
        """
        asked: Deferred[Reply] = Deferred()
        if self._pair is None:
            asked.callback(None)
        else:
            self._pair.writer.command(asked.callback, *command)
        return asked

    # --- connecting ---------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.state is not State.CLOSED:
            self._opening = self._connect()
            self._opening.addCallbacks(self._opened, self._not_opened)

    def _opened(self, pair: Pair) -> None:
        self._opening, self._pair = None, pair
        self._asked_at = self._relay.reactor.seconds()
        for connection in (pair.writer, pair.reader):
            connection.lost = self._lost
            if connection.ended is not None:
                self._lost(connection.ended)
                return
        newest = self.outbox.newest_id or START
        take_survey(pair.writer, self._key, newest, self.tail.newest, partial(self._begin, pair), self._refused)

    def _begin(self, pair: Pair, survey: Survey) -> None:
        """Read and send: again what the broker has lost, then what is new."""
        self._asked_at = math.inf
        is_another = self._is_another(pair)
        has_lost = is_another or self.tail.has_lost(survey.cursor)
        if self.outbox.newest_id is not None and not self.outbox.is_newest(survey.newest):
            count, has_lost = self.outbox.rewind(), True
            _log.warn("backplane: the broker has lost its newest entries: sending {count} again", count=count)
        if self._has_members():
            self.tail.go_on(survey.cursor)
        else:
            # What was trimmed while this node was away is not lost: all ids that it gave lie below what it reads now.
            has_lost = is_another or (has_lost and self.tail.newest >= survey.first)
            self.tail.learn(survey.last, self._relay.reactor.seconds())
        if self._relay.hub.histories.exist:
            if has_lost:
                self.tail.lose()
            elif survey.last == START and self._epochs.is_unknown:
                self._epochs.begin(START_PLACE)
        self._proof = self._sender.last_seq + 1
        self.tail.begin(pair.reader)
        self._sender.begin(pair.writer)

    def _is_another(self, pair: Pair) -> bool:
        """Return whether another server took over: its clock may be behind, and the old one may have gone on."""
        if pair.incarnation != (self._incarnation or pair.incarnation):
            self._stats.incarnations += 1
            _log.warn("backplane: {where} was restarted, or a replica took over", where=pair.where)
        has_moved = pair.where != (self._served_by or pair.where)
        self._incarnation, self._served_by = pair.incarnation, pair.where
        return has_moved

    def _has_members(self) -> bool:
        """Return whether members may wait for old messages; while it is down, those of a drain: no hole before 1013."""
        if self.state is not State.DOWN:
            return self.state is State.INTERRUPTED
        hub = self._relay.hub
        return any(room != PROBE_ROOM and self._is_mine(room) and hub.member_count(room) for room in hub.names)

    def _came_back(self, seq: int) -> None:
        """An own entry was read: the path works."""
        self.held.settle(self._on_the_way)
        if seq == self._sender.last_seq:
            self._stats.round_trip_seconds.observe(self._relay.reactor.seconds() - self._sender.sent_at)
        if self.state is not State.UP and seq >= self._proof and self._pair is not None:
            self._attempts = 0
            self._become(State.UP, "")
            for warning in self._pair.warnings:
                _log.warn("backplane: {where}: {warning}", where=self._pair.where, warning=warning)
            self._waiting.answer()

    def _answer_ahead(self) -> None:
        """Entries were delivered: clients that know them already go on."""
        if self._waiting and self.state is not State.CONNECTING:
            self._waiting.delivered()

    # --- losing it ----------------------------------------------------------------------------------

    def _lost(self, reason: Failure) -> None:
        self._doubt(of_failure(reason, self._where))

    def _refused(self, reply: RedisError) -> None:
        self._doubt(of_reply(reply, self._where))

    def _doubt(self, problem: NoBroker) -> None:
        """Give the pair up, and open a new one."""
        if self._pair is not None:
            self._end_pair()
            self._failed(problem)

    def _end_pair(self) -> None:
        pair, self._pair = self._pair, None
        if pair is not None:
            pair.abort()
            self._asked_at = self._proof = math.inf  # own entries that were read before prove nothing
            self.tail.end()
            self._sender.end()

    def _not_opened(self, failure: Failure) -> None:
        self._opening = None
        if self.state is State.CLOSED:
            return
        problem = failure.value
        if not isinstance(problem, NoBroker):
            log_failure("backplane: connecting failed", failure)
            problem = NoBroker("error", "connecting failed; the log has the traceback")
        self._failed(problem)

    def _failed(self, problem: NoBroker) -> None:
        """There is no pair: say why, where that is new, and try again."""
        if self.state is State.UP:
            self._become(State.INTERRUPTED, problem.text)
        elif self.state is State.CONNECTING:
            self._go_down(problem.text)
        elif problem.text != self.problem:
            _log.warn("backplane: {problem}", problem=problem.text)
            self.problem = problem.text
        self._stats.reconnects[problem.reason] += 1
        least, most = RETRY_SECONDS
        delay = min(most, least * 2.0 ** min(self._attempts, 10)) * (0.5 + self._relay.random() / 2)
        self._attempts += 1
        self._relay.reactor.callLater(delay, self._open)

    def _go_down(self, problem: str) -> None:
        self._become(State.DOWN, problem)
        self._waiting.refuse()
        self._relay.lose(self._is_mine)

    def _become(self, state: State, problem: str) -> None:
        if state is not self.state:
            announce(state, self._where, self._key, problem, self._relay.settings.backplane_grace_seconds)
        self.state, self.problem, self._since = state, problem, self._relay.reactor.seconds()

    # --- the time -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._relay.reactor.seconds()
        was_blocked = now - self._ticked_at > 2 * TICK_SECONDS
        self._ticked_at = now
        if self._pair is not None and not was_blocked:
            if problem := self._late(now):
                self._doubt(problem)
            elif now - self._sender.sent_at >= HEARTBEAT_SECONDS:
                self._sender.send(heartbeat=True)
        if self.state is State.UP:
            self._epochs.tick(now)
            self._trimmer.tick(now, self._since)
        if self._waiting and self.state is not State.CONNECTING:
            self._waiting.answer()
        if self.state is State.INTERRUPTED and now - self._since >= self._relay.settings.backplane_grace_seconds:
            self._go_down(self.problem)

    def _late(self, now: float) -> NoBroker | None:
        """Return what has not come in time."""
        sender, unread_since = self._sender, self.outbox.unread_since
        asked_at = min(sender.sent_at if sender.is_waiting else now, self.tail.asked_at, self._asked_at)
        if now - asked_at > REPLY_SECONDS:
            return NoBroker("timeout", f"{self._where}: no answer for {REPLY_SECONDS:g} s: see its load")
        if unread_since is not None and not self.tail.is_behind and now - unread_since > READ_BACK_SECONDS:
            text = "entries that it has taken cannot be read: name one server, no load balancer"
            return NoBroker("unread", f"{self._where}: {text}")
        return None

    def _settle(self) -> None:
        """Hold or release publishers; end, when the last entry is acknowledged."""
        self.held.settle(self._on_the_way)
        if self.outbox.finished:
            self._finish()

    @property
    def _on_the_way(self) -> int:
        """Bytes of messages that have not come back: else a node that reads slowly fills the broker."""
        return self.outbox.pending_bytes + self.outbox.unread_bytes

    def _finish(self) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.callback(None)

    @property
    def _where(self) -> str:
        return "the broker" if self._pair is None else self._pair.where
