"""What a Dockerfile says, and its steps taken without an engine.

There may be no engine where the tests run, and no registry with the base image. So the steps are taken here as they
stand, but with folders of the test's for those of the image; what comes out is run as the image would be: as process 1,
under the image's user's number, and with nothing that it may write to.
"""

import json
import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.files import DEPLOY, ROOT
from tests.harness.live import require, run

#: A bound on a step, which may have to load what it needs.
STEP_SECONDS = 300

#: The folders of the image that the steps write to.
FOLDERS = ("/etc/wsrelay", "/opt/wsrelay", "/src", "/wheels")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions in order: name and the rest, continued lines joined."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined)]


@dataclass
class Image:
    """What the steps have made.

    Attributes:
        root: the folder that stands for "/".
        environ: of ENV.
        said: the last of each other instruction, by name.
    """

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return text with the folders of the image where they are."""
        for folder in FOLDERS:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def command(self, name: str) -> list[str]:
        """Return the command of ENTRYPOINT or the like, in its exec form."""
        said = self.said[name]
        return [self.here(word) for word in json.loads(said[said.index("[") :])]

    def user(self, *command: str) -> list[str]:
        """Return what runs a command in the image as process 1 and as the image's user, who owns nothing else."""
        uid, gid = self.said["USER"].split(":")
        spaces = ["--user", f"--map-user={uid}", f"--map-group={gid}", "--pid", "--fork", "--kill-child"]
        return [require("unshare"), *spaces, *command]


def _copy(image: Image, words: list[str], workdir: str) -> None:
    *sources, target = words
    if sources[0].startswith("--from="):
        return  # it is there: both stages are one folder
    folder = Path(image.here(target if target.startswith("/") else f"{workdir}/{target}"))
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            file = folder / source if target.endswith("/") else folder
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, file)


def _run(image: Image, rest: str, workdir: str) -> None:
    command = json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
    ended = run(*map(image.here, command), cwd=image.here(workdir), timeout=STEP_SECONDS)
    assert ended.returncode == 0, ended.stdout


def build(root: Path) -> Image:
    """Take all steps in a folder."""
    image = Image(root)
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
        else:
            image.said[name] = rest
    image.environ["PATH"] = image.environ["PATH"].replace("$PATH", os.environ["PATH"])
    return image
