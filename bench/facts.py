"""What has to be known of a run besides its figures: the machine, the versions, the commands."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import interpreters
import measure
import processes
import servers
import toolchain
from measure import Timing
from servers import Server
from work import Row


def gather(
    chosen: Sequence[Server],
    rows: Sequence[Row],
    timing: Timing,
    absent: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Gather all of it, as it goes into the results.

    Args:
        chosen: the servers that were asked for.
        rows: the work that was asked for.
        timing: how long and how often.
        absent: those of the servers that are not there, each with what is missing.
        left_out: rows that could not be measured, by name, each with what is missing.
    """
    present = [server for server in chosen if server.name not in absent]
    server_core, load_core = processes.cores()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": processor(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
            "cores": os.cpu_count(),
            "server on core": server_core,
            "load generator on core": load_core,
            "kernel": f"{platform.system()} {platform.release()}",
            "load average before": round(os.getloadavg()[0], 2),
        },
        "tools": {
            **(interpreters.chosen() or interpreters.ask(sys.executable)).facts(),
            "C compiler": first_line(toolchain.answer(["cc", "--version"])),
            "Node": first_line(toolchain.answer(["node", "--version"])),
            "nginx": first_line(toolchain.answer(["nginx", "-v"])),
            "Redis": first_line(toolchain.answer(["redis-server", "--version"])),
        },
        "timing": {"seconds": timing.seconds, "warmup": timing.warmup, "repeats": timing.repeats},
        "servers": {server.name: of_server(server, server in present) for server in chosen},
        "absent": dict(absent),
        "left out": dict(left_out or {}),
        "rows": {row.name: ["load", *row.arguments()] for row in rows},
        "not applicable": [[s.name, row.name] for s in chosen for row in rows if not measure.applies(s, row)],
    }


def processor(cpuinfo: str) -> str:
    """Take the model from /proc/cpuinfo."""
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()


def first_line(text: str) -> str:
    """Give the first line; "none" for no text."""
    return text.splitlines()[0] if text else "none"


def of_server(server: Server, present: bool) -> dict[str, Any]:
    """Give the version of a server, where it is there, and the commands that start it and its load."""
    places = servers.places() if present else servers.NAMES
    command = [word.format(**places) for word in server.version]
    return {
        "title": server.title,
        "version": first_line(toolchain.answer(command)) if command and present else "",
        "command": shown(server, deflate=False),
        "with deflate": None if server.deflate is None else shown(server, deflate=True),
        "with tls": None if server.tls is None else server.command_line(False, servers.NAMES, tls=True),
        "load": list(server.load),
        "environment": dict(server.environ),
    }


def shown(server: Server, deflate: bool) -> list[str]:
    """Give the command as a report shows it, without the places of one machine."""
    return server.command_line(deflate, servers.NAMES)
