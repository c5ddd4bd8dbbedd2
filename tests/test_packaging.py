"""What is built, and what is there once it is installed: wheel, sdist, ``pip install .`` and ``pip install -e .``.

All is built from a copy of the sources, so that nothing is written beside them and nothing that an earlier build has
left gets in. pip gets what it needs from wherever it is configured to.
"""

import importlib.util
import json
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, handshake, read_to_end, text
from tests.harness.live import missing, relay, run
from wsrelay import __version__

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "validator-package"

#: A bound on one step of building or installing, which may have to load what it needs.
STEP_SECONDS = 300

#: What is no source: left by earlier builds, by tools and by tests.
LEFT_OVERS = (".*", "*.egg-info", "__pycache__", "build", "dist", "dropin.cache", "node_modules", "reports")

BOTH = ["twistd", "twist"]


@dataclass
class Environment:
    """A virtual environment.

    Attributes:
        scripts: where its programs are.
    """

    scripts: Path

    def pip(self, *arguments: str | Path) -> None:
        """Run its pip."""
        step(self.scripts / "pip", *arguments)

    def python(self, code: str, cwd: Path) -> str:
        """Return what a piece of code prints."""
        return step(self.scripts / "python", "-c", code, cwd=cwd)


def step(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a step to its end and return what it printed; fails if it does."""
    ended = run(*command, cwd=cwd, timeout=STEP_SECONDS)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def copy(original: Path, folder: Path) -> Path:
    """Copy a project's sources into a folder, and return their new place."""
    return Path(shutil.copytree(original, folder / original.name, ignore=shutil.ignore_patterns(*LEFT_OVERS)))


def environment(folder: Path) -> Environment:
    """Make a clean environment with the interpreter that runs the tests."""
    step(sys.executable, "-m", "venv", folder)
    return Environment(folder / "bin")


@dataclass
class Built:
    """What ``python -m build`` makes."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel that is built from it."""
    if importlib.util.find_spec("build") is None:
        missing("the Python package build", "pip install build")
    folder = tmp_path_factory.mktemp("build")
    step(sys.executable, "-m", "build", "--outdir", folder / "dist", copy(ROOT, folder))
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A clean environment with the wheel, and a validator of somebody else's beside it."""
    folder = tmp_path_factory.mktemp("installed")
    made = environment(folder / "venv")
    made.pip("install", built.wheel)
    made.pip("install", copy(EXAMPLE, folder))
    return made


def package_files() -> set[str]:
    """Return the files that are installed for the package, as they stand in the repository."""
    patterns = ("wsrelay/**/*.py", "wsrelay/py.typed", "wsrelay/*/*.html", "twisted/plugins/*.py")
    return {str(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern)}


def test_wheel_files(built: Built) -> None:
    """The wheel has package and pages, py.typed, plugins, man page, metadata; no tests, no __init__.py of Twisted's."""
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if f"wsrelay-{__version__}.dist-info/" not in name}
    man_page = f"wsrelay-{__version__}.data/data/share/man/man1/twistd-wsrelay.1"
    assert names == package_files() | {man_page}
    assert {"twisted/plugins/wsrelay_plugin.py", "twisted/plugins/wsrelay_validators.py", "wsrelay/py.typed"} <= names
    assert {name for name in names if name.startswith("twisted/") and name.endswith("__init__.py")} == set()


def test_sdist_files(built: Built) -> None:
    """The sdist has all that it takes to build the wheel, readme and licence, and no part of the tests."""
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert package_files() | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "man/twistd-wsrelay.1"} <= names
    assert {
        name for name in names if name.startswith(("tests", "twisted/__init__", "twisted/plugins/__init__"))
    } == set()


def test_metadata(installed: Environment, tmp_path: Path) -> None:
    """The installed package says what it is, and all that it requires is there."""
    code = "import importlib.metadata, json; print(json.dumps(importlib.metadata.metadata('wsrelay').items()))"
    metadata = json.loads(installed.python(code, tmp_path))
    for name, value in [
        ("Name", "wsrelay"),
        ("Version", __version__),
        ("License", "MIT"),
        ("License-File", "LICENSE"),
        ("Requires-Python", ">=3.11"),
    ]:
        assert [name, value] in metadata
    installed.pip("check")


def test_man_page(installed: Environment) -> None:
    """The man page is where man looks for it beside programs on PATH."""
    assert (installed.scripts.parent / "share" / "man" / "man1" / "twistd-wsrelay.1").exists()


@pytest.mark.parametrize("program", BOTH)
def test_start(installed: Environment, program: str) -> None:
    """What the wheel installs starts, relays and stops."""
    with (
        relay(program=program, scripts=installed.scripts) as server,
        WebsocketsClient(server.url("/room")) as publisher,
        WebsocketsClient(server.url("/room")) as subscriber,
    ):
        publisher.say(text("hello"))
        assert subscriber.hear() == "hello"


@pytest.mark.parametrize("program", BOTH)
def test_validator_listed(installed: Environment, program: str) -> None:
    """A validator in a package of somebody else's is listed beside the built-in ones."""
    listed = step(installed.scripts / program, "wsrelay", "--help-validators")
    assert "api-keys:FILE\n    Wants a key that is in a file (401): Authorization: Bearer KEY.\n" in listed
    assert "\norigin:" in listed


@pytest.mark.parametrize("program", BOTH)
def test_validator_denies(installed: Environment, program: str, tmp_path: Path) -> None:
    """It is found by its name, denies with its own status and reason, and lets in whom it lets in."""
    key = "k" * 32
    keys = tmp_path / "keys"
    keys.write_text(f"alice {key}\n", "utf-8")
    with relay("--validate", f"api-keys:{keys}", program=program, scripts=installed.scripts) as server:
        with server.connect() as connection:
            connection.sendall(handshake("/room", Authorization="Bearer coffee"))
            head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 ")
        assert body == b"there is no such API key\n"

        with WebsocketsClient(server.url("/room"), additional_headers={"Authorization": f"Bearer {key}"}):
            server.output.wait_for("joined 'room' as 'alice'")
        assert key not in server.output.text


def test_validator_tests(installed: Environment) -> None:
    """The tests that the example brings with it pass where it is installed."""
    assert "OK" in step(installed.scripts / "python", "-m", "unittest", cwd=EXAMPLE)


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["pip install .", "pip install -e ."])
def test_discovery(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Both commands find the relay and its validators after an installation from the sources."""
    made = environment(tmp_path / "venv")
    made.pip("install", *options, copy(ROOT, tmp_path))
    for program in BOTH:
        assert step(made.scripts / program, "wsrelay", "--version", cwd=tmp_path) == f"wsrelay {__version__}\n"
        assert "\norigin:" in step(made.scripts / program, "wsrelay", "--help-validators", cwd=tmp_path)
