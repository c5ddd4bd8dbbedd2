"""The servers that are measured, as a table. Adding one is adding a row, and a file in `peers/` where it needs one.

Words in braces in a command are places: `places()` for running it, `NAMES` for showing it.
"""

import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import interpreters
import toolchain


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: for the command line and the results.
        title: for tables and plots.
        command: what starts it. It says on which port it listens, see `processes.LISTENING`.
        needs: make or find what it needs, or raise `toolchain.MissingError`.
        deflate: what is added to the command for rows with compression; None for a server that cannot do it.
        load: what the load generator is told of it.
        environ: what its environment has besides ours.
        plain: what is added to the command for rows without TLS.
        tls: what is added for rows with TLS; None for a server that is not measured with it.
        rows: patterns of the rows that it is measured at, which commas separate.
        nodes: of one relay, with a broker; 0 for a server without one. Those with nodes are measured when named.
        version: prints its version.
    """

    name: str
    title: str
    command: tuple[str, ...]
    needs: tuple[Callable[[], object], ...] = ()
    deflate: tuple[str, ...] | None = ("--deflate",)
    load: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    version: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    tls: tuple[str, ...] | None = None
    rows: str = "*"
    nodes: int = 0

    def command_line(self, deflate: bool, where: Mapping[str, str], tls: bool = False) -> list[str]:
        """Give the command, with every place filled in."""
        listen = (self.tls or ()) if tls else self.plain
        added = (self.deflate or ()) if deflate else ()
        return [word.format(**where) for word in (*self.command, *listen, *added)]


#: Prints the version of a Python package.
VERSION = ("-c", "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))")

#: All load comes from one address, and one publisher may be all there is: what limits these is never reached.
ONE_BIG_CLIENT = (
    *("--max-connections-per-address", "100000"),
    *("--max-handshakes", "100000", "--max-handshakes-per-address", "100000"),
    *("--max-connects-per-second", "1e9", "--max-connects-per-second-per-address", "1e9"),
    *("--max-messages-per-second", "0", "--max-frames-per-second", "0", "--max-bytes-per-second", "0"),
)

#: The yardstick, and what is measured with it.
FLOOR = "floor"
RELAY = "relay"

#: The relay whose rooms keep their last messages, and how many.
HISTORY = "relay-history"
HISTORY_OPTIONS = ("--history", "**=100")


#: What a peer with TLS is told.
TLS = ("--tls", "{certificate}", "{key}")


def _on_python(name: str, title: str, deflate: bool = True, tls: tuple[str, ...] | None = None) -> Server:
    """Make the row of a peer on Python: the package of its name, and the file in `peers/`."""
    return Server(
        name,
        title,
        ("{python}", f"{{peers}}/{name}_peer.py"),
        (toolchain.python,),
        deflate=("--deflate",) if deflate else None,
        version=("{python}", *VERSION, name),
        tls=tls,
    )


def _relay(
    name: str, title: str, *before: str, options: tuple[str, ...] = (), pure: bool = False, rows: str = "*"
) -> Server:
    """Make the row of the relay; what is put before its command runs it, and it gets more options."""
    return Server(
        name,
        title,
        (*before, "{twistd}", "-n", "--pidfile=", "wsrelay", *ONE_BIG_CLIENT, *options),
        (toolchain.relay,),
        deflate=(),
        environ={"WSRELAY_PURE": "1"} if pure else {},
        version=("{own_python}", *VERSION, "wsrelay"),
        plain=("--listen", "tcp:0:interface=127.0.0.1"),
        tls=("--listen", "ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"),
        rows=rows,
    )


def _nodes(count: int, rows: str = "*") -> Server:
    """Make the row of a relay of some nodes with a Redis of its own."""
    name = "relay-redis" if count == 1 else f"relay-redis-{count}"
    title = "wsrelay, Redis" if count == 1 else f"wsrelay, Redis, {count} nodes"
    before = ("{own_python}", "{peers}/nodes.py", str(count))
    relay = _relay(name, title, *before, rows=rows)
    return replace(relay, needs=(*relay.needs, toolchain.hiredis, toolchain.redis), nodes=count)


#: What is measured with more than one node.
NODES_ROWS = "cross-*,nodes-*"

#: Where being watched could cost something; the others would take minutes and say the same.
WATCHED_ROWS = "10x1,100x1,100x64,1000x64,rooms-500x2,paced-100,idle-9000"

#: Fan-out, in which a room keeps each message that it delivers, and latency.
HISTORY_ROWS = "10x1,10x64,100x1,100x64,1000x1,1000x64,all-100,rooms-500x2,paced-100"

SERVERS = [
    _relay(RELAY, "wsrelay"),
    _relay(HISTORY, "wsrelay, history", options=HISTORY_OPTIONS, rows=HISTORY_ROWS),
    _relay("relay-pure", "wsrelay, pure Python", pure=True),
    _relay("watched", "wsrelay, watched", "{own_python}", "{peers}/watched.py", rows=WATCHED_ROWS),
    Server(FLOOR, "floor (C)", ("{build}/floor",), (partial(toolchain.compiled, "floor"),), deflate=None),
    _on_python("autobahn", "Autobahn"),
    _on_python("websockets", "websockets", tls=TLS),
    _on_python("picows", "picows", deflate=False),
    _on_python("aiohttp", "aiohttp"),
    Server(
        "ws",
        "ws (Node)",
        ("node", "{peers}/ws_peer.mjs"),
        (toolchain.node_modules,),
        version=("node", "-p", "require('{peers}/node_modules/ws/package.json').version"),
        tls=TLS,
    ),
    Server(
        "nchan",
        "Nchan (nginx)",
        ("{own_python}", "{peers}/nchan.py", "{nchan}"),
        (toolchain.nchan,),
        load=("--echoes",),
        version=("dpkg-query", "-W", "-f", "${{Version}}", "libnginx-mod-nchan"),
    ),
    Server(
        "nats",
        "NATS",
        ("nats-server", "-c", "{peers}/nats.conf"),
        (partial(toolchain.program, "nats-server"),),
        # It compresses, too, but the load generator speaks NATS only without.
        deflate=None,
        load=("--dialect", "nats"),
        environ={"GOMAXPROCS": "1"},
        version=("nats-server", "--version"),
    ),
    _nodes(1),
    _nodes(2, NODES_ROWS),
    _nodes(3, NODES_ROWS),
]

#: What is measured unless the command line names servers.
USUAL = [server for server in SERVERS if not server.nodes]

BY_NAME = {server.name: server for server in SERVERS}

#: How a report names the places, which are different on every machine.
NAMES = {
    "build": "bench/.build",
    "certificate": "bench/.build/certificate.pem",
    "key": "bench/.build/key.pem",
    "nchan": toolchain.NCHAN,
    "own_python": "python",
    "peers": "bench/peers",
    "python": "bench/.env/bin/python",
    "twistd": "twistd",
}


def places() -> dict[str, str]:
    """Give the places on this machine; one whose part is missing is empty, and its server is not started."""
    try:
        module = str(toolchain.nchan())
    except toolchain.MissingError:
        module = ""
    chosen = interpreters.chosen()
    scripts = toolchain.environment_folder(toolchain.HERE, *([chosen.path] if chosen else [])) / "bin"
    return {
        "build": str(toolchain.BUILD),
        "certificate": str(toolchain.BUILD / toolchain.CERTIFICATE),
        "key": str(toolchain.BUILD / toolchain.KEY),
        "nchan": module,
        "own_python": str(scripts / "python") if chosen else sys.executable,
        "peers": str(toolchain.PEERS),
        "python": str(scripts / "python"),
        "twistd": str((scripts if chosen else Path(sysconfig.get_path("scripts"))) / "twistd"),
    }


def missing(chosen: list[Server]) -> dict[str, str]:
    """Make what the servers need, and give the names of those that have not got it, each with what is missing."""
    absent = {}
    for server in chosen:
        try:
            for need in server.needs:
                need()
        except toolchain.MissingError as failure:
            absent[server.name] = str(failure)
    return absent
