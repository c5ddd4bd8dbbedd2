"""The files of services that build, test and publish: workflows, Dependabot, Read the Docs. None can run here."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, documents, tool
from tests.harness.live import run

pytestmark = pytest.mark.deploy

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.readthedocs", [ROOT / ".readthedocs.yaml"]),
    ],
)
def test_schema(schema: str, files: list[Path]) -> None:
    """Each file is valid by the schema of its service."""
    ended = run(tool("check-jsonschema"), "--builtin-schema", schema, *map(str, files))
    assert ended.returncode == 0, ended.stdout


def test_ci_pythons() -> None:
    """The workflow runs .ci/run, with every Python of tox.ini; Debian's is the first of them."""
    ((job,),) = [said["jobs"].values() for said in documents(GITHUB / "workflows" / "ci.yml")]
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    debian, *others = re.findall(r"\bpy3(\d+)\b", tox["tox"]["env_list"])
    assert debian == "11"
    assert [step.get("run") for step in job["steps"]][-1] == ".ci/run"
    assert job["env"]["PYTHONS"].split()[1:] == [f"3.{minor}" for minor in others]


def test_actions() -> None:
    """Each action is named with its major version, or is a workflow of this repository."""
    used = [name for file in WORKFLOWS for name in re.findall(r"\buses: (\S+)", file.read_text("utf-8"))]
    assert len(used) > 10
    for name in used:
        assert re.search(r"@(release/)?v\d+$", name) or (ROOT / name).is_file(), name


def test_site_command() -> None:
    """Read the Docs builds the site with the command and the extra of tox.ini."""
    (said,) = documents(ROOT / ".readthedocs.yaml")
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    ours = re.sub(r" -d \S+|docs/\.build/html.*", "", tox["testenv:docs"]["commands"])
    (theirs,) = said["build"]["jobs"]["build"]["html"]
    assert re.sub(r" -d \S+|\$READTHEDOCS_OUTPUT/html", "", theirs) == ours
    assert said["python"]["install"] == [{"method": "pip", "path": ".", "extra_requirements": ["docs"]}]
