"""What INFO says about a broker: whether it can serve, which incarnation it is, and what endangers messages there.

Must not live here: asking (:mod:`wsrelay.backplane.redis_link`).
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from wsrelay.backplane.redis_errors import NoBroker

__all__ = ["Incarnation", "incarnation", "parse", "refusal", "warnings"]

#: The oldest version: XTRIM and XADD with MINID. Source: redis.io, XADD, "History".
_VERSION: Final = (6, 2)


class Incarnation(NamedTuple):
    """Identifies the data of a broker: it differs after each restart, and after a failover.

    Attributes:
        run_id: of the process.
        replication_id: ``master_replid``, of the history of writes.
    """

    run_id: str
    replication_id: str


def parse(info: bytes) -> dict[str, str]:
    """Return the fields of a reply to INFO. Lines without a colon, as the titles of sections, are skipped."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def incarnation(facts: Mapping[str, str]) -> Incarnation:
    """Return the incarnation; fields that INFO has not are empty."""
    return Incarnation(facts.get("run_id", ""), facts.get("master_replid", ""))


def refusal(facts: Mapping[str, str], where: str) -> NoBroker | None:
    """Return why the broker cannot serve; ``None`` if it can.

    Args:
        facts: the fields of INFO.
        where: the broker, as host and port; the text starts with it.
    """
    version = facts.get("redis_version", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if "valkey_version" not in facts and (numbers is None or tuple(map(int, numbers.groups())) < _VERSION):
        return NoBroker("version", f"{where}: version {version or 'unknown'}: Redis 6.2 or later, or Valkey, is needed")
    if facts.get("loading", "0") != "0":
        seconds = facts.get("loading_eta_seconds", "some")
        return NoBroker("loading", f"{where}: it reads its data from disk: wait {seconds} s")
    if facts.get("role") != "master":
        master = f"{facts.get('master_host')}:{facts.get('master_port')}" if "master_host" in facts else "unknown"
        text = f"it is a replica; its master is {master}: name that, or Sentinels by redis+sentinel://"
        return NoBroker("replica", f"{where}: {text}")
    return None


def warnings(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return what endangers messages, one sentence each that says what to do."""
    policy = facts.get("maxmemory_policy", "")
    if facts.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        return (f"maxmemory-policy is {policy}, which may evict the log: set noeviction, or a volatile-* policy",)
    return ()
