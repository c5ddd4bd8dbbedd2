"""Wheel, sdist, ``pip install .`` and ``pip install -e .``: content, and function when installed.

Builds use a copy of the sources, so that nothing is written beside them and no files of earlier builds are included.
pip uses its configured index.
"""

import email
import importlib.util
import json
import re
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, handshake, read_to_end, text
from tests.harness.live import environment as live_environment
from tests.harness.live import missing, relay, run
from tests.harness.native import can_compile
from wsrelay import __version__

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "validator-package"

#: Bound on one step in seconds; a step may download packages.
STEP_SECONDS = 300

#: Files that are not sources: made by builds, tools and tests.
LEFT_OVERS = (".*", "*.egg-info", "*.so", "__pycache__", "build", "dist", "dropin.cache", "node_modules", "reports")

#: Files of the sdist that the wheel is built from, beside those in it.
SOURCES = {
    *("setup.cfg", "setup.py", "pyproject.toml", "wsrelay/_native.c"),
    *("README.md", "CHANGELOG.md", "LICENSE", "man/twistd-wsrelay.1", "man/wsrelay.1"),
}

BOTH = ["twistd", "twist"]


@dataclass
class Environment:
    """A virtual environment.

    Attributes:
        scripts: folder of its programs.
    """

    scripts: Path

    def pip(self, *arguments: str | Path, **variables: str) -> None:
        """Run its pip, with additional environment variables."""
        step(self.scripts / "pip", *arguments, **variables)

    def python(self, code: str, cwd: Path) -> str:
        """Run code and return its output."""
        return step(self.scripts / "python", "-c", code, cwd=cwd)


def step(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a command, which must succeed, with additional environment variables, and return its output."""
    ended = run(*command, cwd=cwd, timeout=STEP_SECONDS, env=live_environment(variables))
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def copy(original: Path, folder: Path) -> Path:
    """Copy the sources of a project into a folder, and return the copy."""
    return Path(shutil.copytree(original, folder / original.name, ignore=shutil.ignore_patterns(*LEFT_OVERS)))


def environment(folder: Path) -> Environment:
    """Make a virtual environment with the tests' interpreter."""
    step(sys.executable, "-m", "venv", folder)
    return Environment(folder / "bin")


@dataclass
class Built:
    """Result of ``python -m build``."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel built from it."""
    if importlib.util.find_spec("build") is None:
        missing("the Python package build", "pip install build")
    folder = tmp_path_factory.mktemp("build")
    step(sys.executable, "-m", "build", "--outdir", folder / "dist", copy(ROOT, folder))
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and a third-party validator."""
    folder = tmp_path_factory.mktemp("installed")
    made = environment(folder / "venv")
    made.pip("install", built.wheel)
    made.pip("install", copy(EXAMPLE, folder))
    return made


def package_files() -> set[str]:
    """Return the installed files of the package, as paths in the repository."""
    patterns = ("wsrelay/**/*.py", "wsrelay/*.pyi", "wsrelay/py.typed", "wsrelay/*/*.html", "twisted/plugins/*.py")
    return {str(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern)}


def wheel_files(file: Path) -> set[str]:
    """Return the files in a wheel, without metadata and man pages, which are always there."""
    with zipfile.ZipFile(file) as wheel:
        names = {name for name in wheel.namelist() if f"wsrelay-{__version__}.dist-info/" not in name}
    man_pages = {name for name in names if re.search(r"/data/share/man/man1/(twistd-)?wsrelay\.1$", name)}
    assert len(man_pages) == 2
    return names - man_pages


def metadata(file: Path) -> email.message.Message:
    """Return the metadata of a wheel, with the long description as the payload."""
    with zipfile.ZipFile(file) as wheel:
        return email.message_from_bytes(wheel.read(f"wsrelay-{__version__}.dist-info/METADATA"))


def require_compiler() -> None:
    """Skip without a C compiler and Python's headers; in CI, fail."""
    if not can_compile():
        missing("a C compiler, or Python.h for this interpreter", "apt-get install gcc libc6-dev python3-dev")


def is_compiled(made: Environment, cwd: Path) -> bool:
    """Return whether an installed relay has the extension module."""
    code = "from wsrelay.wire import native; print(native.IS_COMPILED)"
    return {"True": True, "False": False}[made.python(code, cwd).strip()]


def test_wheel_files(built: Built) -> None:
    """The wheel has package, pages, py.typed, plugins, man page; no tests, and no __init__.py of Twisted."""
    names = {name for name in wheel_files(built.wheel) if not name.endswith(".so")}
    assert names == package_files()
    assert {"twisted/plugins/wsrelay_plugin.py", "twisted/plugins/wsrelay_validators.py", "wsrelay/py.typed"} <= names
    assert {name for name in names if name.startswith("twisted/") and name.endswith("__init__.py")} == set()


def test_wheel_extension(built: Built, installed: Environment, tmp_path: Path) -> None:
    """One build of the extension module is for Python 3.11 and later, and is used."""
    require_compiler()
    assert "wsrelay/_native.abi3.so" in wheel_files(built.wheel)
    assert built.wheel.name.startswith(f"wsrelay-{__version__}-cp311-abi3-")
    assert is_compiled(installed, tmp_path)


def test_wheel_pure(built: Built, tmp_path: Path) -> None:
    """With WSRELAY_PURE=1 the sdist becomes a wheel for all platforms, without the extension module."""
    made = environment(tmp_path / "venv")
    made.pip("wheel", "--no-deps", "--wheel-dir", tmp_path, built.sdist, WSRELAY_PURE="1")
    wheel = tmp_path / f"wsrelay-{__version__}-py3-none-any.whl"
    assert wheel_files(wheel) == package_files()


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["pip install .", "pip install -e ."])
def test_installation_without_compiler(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Without a compiler on PATH the installation succeeds, and the relay is pure Python."""
    made = environment(tmp_path / "venv")
    made.pip("install", *options, copy(ROOT, tmp_path), PATH=str(made.scripts))
    assert not is_compiled(made, tmp_path)


def test_sdist_files(built: Built) -> None:
    """The sdist has all files of the wheel, readme, changelog and licence, and no tests."""
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert package_files() | SOURCES <= names
    assert {
        name for name in names if name.startswith(("tests", "twisted/__init__", "twisted/plugins/__init__"))
    } == set()


def test_metadata(installed: Environment, tmp_path: Path) -> None:
    """The metadata is right, and all requirements are installed."""
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


def test_index_accepts(built: Built) -> None:
    """twine, whose checks are those of an index, has nothing to say, and can render the description."""
    if importlib.util.find_spec("twine") is None:
        missing("the Python package twine", "pip install twine")
    step(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)


def test_description_links(built: Built) -> None:
    """Every link and image of the description is an address of this release, of a file that exists."""
    said = metadata(built.wheel)
    repository, text = said["Home-page"], str(said.get_payload())
    prefix = {"": f"{repository}/blob/v{__version__}/", "!": f"{repository}/raw/v{__version__}/"}
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", text)
    assert len(links) > 30
    for mark, target in links:
        assert target.startswith(prefix[mark]), target
        assert (ROOT / target.removeprefix(prefix[mark]).partition("#")[0]).is_file(), target
    links = dict(line.split(", ") for line in said.get_all("Project-URL", []))
    assert set(links) == {"Documentation", "Source", "Issues", "Changelog"}
    assert all(link.startswith(repository) for link in links.values())


def test_man_page(installed: Environment) -> None:
    """The man pages are in share/man of the environment."""
    for name in ("twistd-wsrelay.1", "wsrelay.1"):
        assert (installed.scripts.parent / "share" / "man" / "man1" / name).exists()


def test_command(installed: Environment, tmp_path: Path) -> None:
    """The command is on PATH, and needs nothing but its environment: a folder is made, and its relay is right."""
    command = installed.scripts / "wsrelay"
    assert step(command, "--version") == f"wsrelay {__version__}\n"
    step(command, "init", tmp_path / "relay")
    assert "validate = [" in step(command, "check-config", tmp_path / "relay" / "relay.toml")


@pytest.mark.parametrize("program", BOTH)
def test_installed_relay(installed: Environment, program: str) -> None:
    """The installed relay starts, relays and stops."""
    with (
        relay(program=program, scripts=installed.scripts) as server,
        WebsocketsClient(server.url("/room")) as publisher,
        WebsocketsClient(server.url("/room")) as subscriber,
    ):
        publisher.say(text("hello"))
        assert subscriber.hear() == "hello"


@pytest.mark.parametrize("program", BOTH)
def test_validator_listed(installed: Environment, program: str) -> None:
    """A third-party validator is listed with the built-in ones."""
    listed = step(installed.scripts / program, "wsrelay", "--help-validators")
    assert "api-keys:FILE\n    Wants a key that is in a file (401): Authorization: Bearer KEY.\n" in listed
    assert "\norigin:" in listed


@pytest.mark.parametrize("program", BOTH)
def test_third_party_validator(installed: Environment, program: str, tmp_path: Path) -> None:
    """A third-party validator is found by name, denies with its status and reason, and accepts clients."""
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


def test_example_validator_tests(installed: Environment) -> None:
    """The tests of the example package pass with it installed."""
    assert "OK" in step(installed.scripts / "python", "-m", "unittest", cwd=EXAMPLE)


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["pip install .", "pip install -e ."])
def test_plugin_discovery(tmp_path: Path, options: tuple[str, ...]) -> None:
    """After an installation from sources, both commands find the relay and its validators."""
    made = environment(tmp_path / "venv")
    made.pip("install", *options, copy(ROOT, tmp_path))
    assert is_compiled(made, tmp_path) or not can_compile()
    for program in BOTH:
        assert step(made.scripts / program, "wsrelay", "--version", cwd=tmp_path) == f"wsrelay {__version__}\n"
        assert "\norigin:" in step(made.scripts / program, "wsrelay", "--help-validators", cwd=tmp_path)
