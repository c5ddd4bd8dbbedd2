"""The Redis of deploy/redis: its file of users, and the commands of containers that make it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.files import DEPLOY, rendered
from tests.harness.broker import Argument, Broker
from tests.harness.live import run

#: The password of the tests.
PASSWORD = "correct horse battery staple"

#: The folder of the files.
FOLDER = DEPLOY / "redis"

#: A user for the tests alone, who may see what Redis has refused.
OPERATOR = "user operator on nopass ~* &* +@all"


def users(folder: Path, name: str = "users.acl") -> Path:
    """Write a file of users, with :data:`PASSWORD` and :data:`OPERATOR`, into a folder and return it."""
    file = folder / name
    hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
    file.write_text(rendered(f"redis/{name}", {"PASSWORD_SHA256": hashed}) + OPERATOR + "\n", "utf-8")
    return file


class GuardedBroker(Broker):
    """A Redis with a file of users of deploy/redis. :meth:`command` is :data:`OPERATOR`'s.

    Args:
        folder: for the file.
        name: of the file.
        more: see :class:`Broker`.
    """

    def __init__(self, folder: Path, name: str = "users.acl", master: Broker | None = None, **more: object) -> None:
        super().__init__(acl=users(folder, name), master=master, **more)
        self._user: list[tuple[Argument, ...]] = []

    def _login(self) -> list[tuple[Argument, ...]]:
        return [("AUTH", "operator", "any"), *self._user]

    def as_relay(self, *arguments: Argument) -> object:
        """Send one command as the relays' user, and return the reply.

        Raises:
            BrokerError: an error reply.
        """
        self._user = [("AUTH", "wsrelay", PASSWORD)]
        try:
            return self.command(*arguments)
        finally:
            self._user = []


def check_redis_start(command: Sequence[str], password: str, folder: Path) -> None:
    """Run a container's command up to Redis itself: it writes the file of users, or fails without a password.

    Args:
        command: of the container; a shell's.
        password: the path of the password in the container.
        folder: for the files.
    """
    shell, option, text = command
    for there, here in {
        password: str(folder / "password"),
        "/etc/redis/users.acl": str(FOLDER / "users.acl"),
        "/tmp/users.acl": str(folder / "made.acl"),
        "exec redis-server": "exec echo",
    }.items():
        assert there in text
        text = text.replace(there, here)
    for written in (None, "", "\n"):
        if written is not None:
            (folder / "password").write_text(written)
        assert run(shell, option, text).returncode != 0
        assert not (folder / "made.acl").exists()
    for end in ("", "\n"):
        (folder / "password").write_text(PASSWORD + end)
        ended = run(shell, option, text)
        assert ended.returncode == 0, ended.stdout
        assert ended.stdout.startswith("/etc/redis/redis.conf")
        assert PASSWORD not in ended.stdout
        hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
        assert (folder / "made.acl").read_text("utf-8") == rendered("redis/users.acl", {"PASSWORD_SHA256": hashed})
