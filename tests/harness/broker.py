"""Real ``redis-server`` and ``redis-sentinel`` processes, and a tiny blocking client.

:class:`Broker` and :class:`Sentinel` are context managers: entering starts the process, leaving ends it, whatever its
state, and removes its folder. Ports are the kernel's, and reserved for the whole life of the object, restarts included.

Must not live here: relays (:mod:`tests.harness.live`) and forwarders between relay and broker
(:mod:`tests.harness.forwarder`).
"""

import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from tests.harness.live import SECONDS, Process, require, until

#: The log line at the end of a start, of Redis and Valkey.
READY = r"[Rr]eady to accept connections"

#: The first log line with open sockets; commands are answered with LOADING until :data:`READY`.
LOADING = r"Server initialized"

#: What an argument of a command may be, and what a reply is; see :func:`read_reply`.
Argument = bytes | str | int | float
Reply = bytes | int | None | list["Reply"]


class BrokerError(Exception):
    """An error reply; its first word is the code, such as ``NOAUTH``."""


def pack_command(*arguments: Argument) -> bytes:
    """Return a command as an array of bulk strings. Source: Redis serialization protocol, RESP2."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in arguments]
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)])


def read_reply(stream: BinaryIO) -> Reply:
    """Read one reply: a status or bulk string as bytes, an integer, a null as ``None``, or an array.

    Raises:
        BrokerError: an error reply.
        EOFError: the broker closed the connection.
    """
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError(f"the broker closed the connection after {line!r}")
    kind, rest = line[:1], line[1:-2]
    readers: dict[bytes, Callable[[], Reply]] = {
        b"+": lambda: rest,
        b":": lambda: int(rest),
        b"$": lambda: stream.read(int(rest) + 2)[:-2] if rest != b"-1" else None,
        b"*": lambda: [read_reply(stream) for _ in range(int(rest))] if rest != b"-1" else None,
    }
    if kind == b"-":
        raise BrokerError(rest.decode())
    return readers[kind]()


def reserved_port() -> socket.socket:
    """Return a bound socket that does not listen: Linux gives its port to a program that sets SO_REUSEADDR only.

    redis-server does. So the port is the broker's own while it is down, and no connect or bind of others gets it.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


class Server:
    """A process of Redis with a configuration file in a folder of its own, which survives restarts.

    Args:
        program: its name; it is skipped, in CI failed, where it is not installed.
        lines: its configuration.
        environ: added to our environment.

    Attributes:
        folder: its working folder.
        port: its port on 127.0.0.1.
    """

    def __init__(self, program: str, lines: Mapping[str, object], environ: Mapping[str, str] | None = None) -> None:
        self._program = require(program)
        self._lines = lines
        self._environ = environ
        self._process: Process | None = None
        self._earlier = ""

    def __enter__(self) -> Self:
        """Start it; a broker that does not start fails with its log."""
        self._folder = tempfile.TemporaryDirectory(prefix="wsrelay-broker-")
        self._reserved = reserved_port()
        self.folder = Path(self._folder.name)
        self.port = int(self._reserved.getsockname()[1])
        try:
            self.configuration.write_text(self._written(), "utf-8")
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._reserved.close()
        if error is not None:
            error.add_note(f"{self._program} on port {self.port} said:\n{self.log[-4000:]}")
        self._folder.cleanup()

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.folder / "redis.conf"

    @property
    def log(self) -> str:
        """The log of all its processes so far."""
        return self._earlier + (self._process.output.text if self._process else "")

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self, line: str = READY) -> None:
        """Start it, and wait for a log line.

        Args:
            line: a pattern; :data:`LOADING` does not wait until the data are read.
        """
        assert self._process is None, "it is running"
        # Killed with the tests, which may be killed themselves: it is in a session of its own.
        command = ["setpriv", "--pdeathsig", "KILL", self._program, *self._arguments()]
        self._process = Process(command, str(self.folder), self._environ)
        self._process.output.wait_for(line)

    def stop(self) -> None:
        """End it with SIGTERM; fail unless it exits with 0. Does nothing if it is down."""
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
            code = self._process.wait()
            self._forget()
            assert code == 0, f"exit code {code}:\n{self.log[-4000:]}"

    def kill(self) -> None:
        """End it with SIGKILL, frozen or not. Does nothing if it is down."""
        self._forget()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: its connections stay, and nothing answers."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it with SIGCONT."""
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    def command(self, *arguments: Argument) -> Reply:
        """Send one command on a connection of its own, and return the reply.

        Raises:
            BrokerError: an error reply.
            OSError: it is down, or did not answer in time.
        """
        with closing(self._connect()) as connection, connection.makefile("rb") as stream:
            for one in (*self._login(), arguments):
                connection.sendall(pack_command(*one))
                reply = read_reply(stream)
        return reply

    def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO."""
        answer = self.command("INFO", section)
        assert isinstance(answer, bytes)
        lines = [line.partition(":") for line in answer.decode().splitlines()]
        return {name: value for name, colon, value in lines if colon}

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def _login(self) -> list[tuple[Argument, ...]]:
        return []

    def _arguments(self) -> list[str]:
        return [str(self.configuration)]

    def _written(self) -> str:
        lines: dict[str, object] = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, **self._lines}
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _forget(self) -> None:
        if self._process is not None:
            self._process.__exit__()
            self._earlier, self._process = self.log, None


class Broker(Server):
    """A ``redis-server`` on a unix socket and a port.

    It obeys DEBUG and changes protected settings. :meth:`command` uses the unix socket, so it needs no TLS.

    Args:
        aof: whether it keeps an append-only file, written at once and synced each second; else it keeps nothing.
        tls: a PEM file with key and certificate: the port speaks TLS only.
        acl: an ACL file. Without a line for "default", that user may do everything without a password.
        password: of the user "default".
        maxmemory: in bytes; writes beyond it are refused with OOM; 0 is no limit.
        master: another broker: this one is its replica.
        slots: the first and last slot that it serves as a node of a Redis Cluster; see :func:`join_cluster`.
        environ: added to our environment.
        more: other lines of the configuration, with "_" for "-".
    """

    def __init__(
        self,
        *,
        aof: bool = False,
        tls: Path | None = None,
        acl: Path | None = None,
        password: str | None = None,
        maxmemory: int = 0,
        master: "Broker | None" = None,
        slots: tuple[int, int] | None = None,
        environ: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        lines: dict[str, object] = {
            "save": '""',
            "appendonly": "yes" if aof else "no",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": 0,  # the incremental file only grows, see aof_bytes
            "maxmemory": maxmemory,
            "enable-debug-command": "yes",
            "enable-protected-configs": "yes",
            "repl-diskless-sync-delay": 0,
        }
        if acl:
            lines["aclfile"] = acl
        if password:
            lines["requirepass"] = lines["masterauth"] = password
        if master:
            lines["replicaof"] = f"127.0.0.1 {master.port}"
        super().__init__(
            "redis-server", lines | {name.replace("_", "-"): value for name, value in more.items()}, environ
        )
        self._tls = tls
        self._password = password
        self.slots = slots

    def __enter__(self) -> Self:
        """Start it; a broker that does not start fails with its log."""
        self._bus = reserved_port()
        self.bus_port = int(self._bus.getsockname()[1])
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._bus.close()

    @property
    def path(self) -> Path:
        """The path of its unix socket."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """Its URL for --backplane, by its port."""
        return f"rediss://127.0.0.1:{self.port}/?ca={self._tls}" if self._tls else f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """Its URL for --backplane, by its unix socket."""
        return f"redis+unix://{self.path}"

    def await_replica(self) -> None:
        """Wait until a replica has the data of its master so far."""
        until(lambda: self.info("replication").get("master_link_status") == "up")

    def promote(self) -> None:
        """Make a replica a master, restarts included. It lacks whatever its old master gets from now on."""
        self.command("REPLICAOF", "NO", "ONE")
        self.command("CONFIG", "REWRITE")

    def aof_bytes(self) -> int:
        """Return the size of the append-only file."""
        return self._aof().stat().st_size

    def truncate_aof(self, to_bytes: int) -> None:
        """Cut the tail of the append-only file, as a power cut does; kill the broker first.

        Args:
            to_bytes: the new size; see :meth:`aof_bytes`. A command that is cut in two is dropped at the start.
        """
        assert self._process is None, "it is running"
        assert to_bytes <= self.aof_bytes()
        with self._aof().open("r+b") as file:
            file.truncate(to_bytes)

    def _aof(self) -> Path:
        # Redis 7 starts each process with a new incremental file only after a rewrite, so there is one.
        (file,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return file

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection

    def _login(self) -> list[tuple[Argument, ...]]:
        return [("AUTH", self._password)] if self._password else []

    def _written(self) -> str:
        tls = {}
        if self._tls:
            names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
            tls = {"port": 0, "tls-port": self.port, "tls-auth-clients": "no", **dict.fromkeys(names, self._tls)}
        cluster = {"cluster-enabled": "yes", "cluster-port": self.bus_port, "cluster-node-timeout": 2000}
        self._lines = {**self._lines, "unixsocket": self.path, **tls, **(cluster if self.slots else {})}
        return super()._written()


def join_cluster(*brokers: Broker) -> None:
    """Make brokers with all slots a Redis Cluster, and wait until each of them serves."""
    for broker in brokers:
        assert broker.slots is not None
        broker.command("CLUSTER", "ADDSLOTSRANGE", *broker.slots)
        broker.command("CLUSTER", "MEET", "127.0.0.1", brokers[0].port, brokers[0].bus_port)
    until(lambda: all("cluster_state:ok" in str(broker.command("CLUSTER", "INFO")) for broker in brokers))


class Sentinel(Server):
    """A ``redis-sentinel`` that watches one master alone, and decides alone.

    Args:
        master: watched.
        name: the master's name.
        down_milliseconds: the silence after which a master counts as down.
    """

    def __init__(self, master: Broker, name: str = "wsrelay", down_milliseconds: int = 500) -> None:
        lines = {
            "sentinel monitor": f"{name} 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds": f"{name} {down_milliseconds}",
            "sentinel failover-timeout": f"{name} 3000",
        }
        super().__init__("redis-sentinel", lines)
        self._name = name

    @property
    def url(self) -> str:
        """Its URL for --backplane."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{self._name}"

    def start(self, line: str = r"\+monitor master") -> None:
        """Start it, and wait until it watches."""
        super().start(line)

    def master_port(self) -> int:
        """Return the port of the present master."""
        reply = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        assert isinstance(reply, list)
        assert isinstance(reply[1], bytes)
        return int(reply[1])

    def await_replicas(self, count: int = 1) -> None:
        """Wait until it knows this many replicas with a link to their master: before, it promotes none."""
        until(lambda: self._linked_replicas() >= count)

    def _linked_replicas(self) -> int:
        replicas = self.command("SENTINEL", "REPLICAS", self._name)
        assert isinstance(replicas, list)
        # Each replica is a flat list of names and values.
        return sum(isinstance(one, list) and b"ok" in one and b"slave" in one for one in replicas)
