"""Parse the Dockerfile and run its steps without a container engine.

Engine and base image may be missing where the tests run. So each step runs unchanged, except that the image's folders
are in a folder of the test. The result runs as in a container: as process 1, under the image's user id, without write
permission.
"""

import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT
from tests.harness.live import SCRIPTS, environment, missing, require, run

#: Bound on one step in seconds; a step may download packages.
STEP_SECONDS = 300

#: Folders of the image that the steps write to.
FOLDERS = ("/dist", "/etc/wsrelay", "/opt/wsrelay", "/src", "/wheels")


def instructions() -> list[tuple[str, str]]:
    """Return name and arguments of each instruction, in order, with continued lines joined."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined)]


@dataclass
class Image:
    """Result of the steps.

    Attributes:
        root: the folder used as "/".
        environ: variables of ENV.
        arguments: those of ``--build-arg``, and the defaults of ARG.
        said: the last instruction of each other name.
    """

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return text with the image's folders replaced by those below `root`."""
        for folder in FOLDERS:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def command(self, name: str) -> list[str]:
        """Return the command of ENTRYPOINT or HEALTHCHECK, in exec form."""
        said = self.said[name]
        return [self.here(word) for word in json.loads(said[said.index("[") :])]

    def user(self, *command: str) -> list[str]:
        """Return a command line that runs a command as process 1 and as the image's user."""
        uid, gid = self.said["USER"].split(":")
        spaces = ["--user", f"--map-user={uid}", f"--map-group={gid}", "--pid", "--fork", "--kill-child"]
        unshare = [require("unshare"), *spaces]
        if run(*unshare, "true").returncode:
            refuse = pytest.fail if os.environ.get("CI") else pytest.skip
            refuse("user namespaces are not permitted here: unshare --user fails")
        return [*unshare, *command]


def _copy(image: Image, words: list[str], workdir: str) -> None:
    *sources, target = words
    if sources[0].startswith("--from="):
        return  # both stages share one folder
    folder = Path(image.here(target if target.startswith("/") else f"{workdir}/{target}"))
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            file = folder / source if target.endswith("/") else folder
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, file)


def _run(image: Image, rest: str, workdir: str) -> None:
    rest = re.sub(r"^(--mount=\S+ +)+", "", rest)  # a stage is a folder of the image, too
    command = json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
    # "python" and "pip" are those of the tests.
    environ = environment({"PATH": f"{SCRIPTS}:{os.environ['PATH']}"} | image.arguments)
    ended = run(*map(image.here, command), cwd=image.here(workdir), timeout=STEP_SECONDS, env=environ)
    assert ended.returncode == 0, ended.stdout


def build(root: Path, **arguments: str) -> Image:
    """Run all steps, with a folder as "/" and with ``--build-arg`` for the arguments; skip without pip."""
    if not (SCRIPTS / "pip").exists():
        missing("pip", "python -m ensurepip")
    image = Image(root, arguments=arguments)
    (root / "dist").mkdir(exist_ok=True)
    workdir = "/"
    for name, rest in instructions():
        words = shlex.split(rest)
        if name == "WORKDIR":
            workdir = rest
            Path(image.here(rest)).mkdir(parents=True)
        elif name == "FROM":
            workdir = "/"
        elif name == "COPY":
            _copy(image, words, workdir)
        elif name == "RUN":
            _run(image, rest, workdir)
        elif name == "ENV":
            image.environ |= {key: image.here(value) for key, _, value in (word.partition("=") for word in words)}
        elif name == "ARG":
            image.arguments = {words[0].partition("=")[0]: words[0].partition("=")[2]} | image.arguments
        else:
            image.said[name] = rest
    image.environ["PATH"] = image.environ["PATH"].replace("$PATH", os.environ["PATH"])
    return image
