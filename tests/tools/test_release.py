""".ci/check_release.py: what a tag must have before it becomes a release."""

import runpy
from pathlib import Path

import pytest

from wsrelay import __version__

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://code.example/wsrelay"

complaints = runpy.run_path(str(ROOT / ".ci" / "check_release.py"))["complaints"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Files that may be released as 1.2.3."""
    (tmp_path / "wsrelay").mkdir()
    (tmp_path / "wsrelay" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "setup.cfg").write_text(f"[metadata]\nurl = {REPOSITORY}\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 - 2026-12-01\n\n## 1.2.2 - 2026-11-01\n")
    return tmp_path


def test_right(checkout: Path) -> None:
    """Where all agree, nothing is said."""
    assert complaints(checkout, "v1.2.3", REPOSITORY) == []


@pytest.mark.parametrize(
    ("tag", "file", "text", "said"),
    [
        ("v1.2.4", "", "", "the tag is v1.2.4, but wsrelay/__init__.py says 1.2.3"),
        (
            "v1.2.3",
            "setup.cfg",
            "[metadata]\nurl = https://x\n",
            "url in setup.cfg is https://x, but the",
        ),
        ("v1.2.3", "CHANGELOG.md", "## 1.2.3 - unreleased\n", "the top of CHANGELOG.md is '1.2.3 - unreleased', not"),
        ("v1.2.3", "CHANGELOG.md", "## 1.2.2 - 2026-11-01\n", "the top of CHANGELOG.md is '1.2.2 - 2026-11-01', not"),
        ("v1.2.3", "CHANGELOG.md", "", "the top of CHANGELOG.md is None, not '1.2.3 - YYYY-MM-DD'"),
    ],
)
def test_wrong(checkout: Path, tag: str, file: str, text: str, said: str) -> None:
    """Whatever does not agree is named."""
    if file:
        (checkout / file).write_text(text)
    (complaint,) = complaints(checkout, tag, REPOSITORY)
    assert complaint.startswith(said)


def test_here() -> None:
    """The top of this changelog is the current version, released or not."""
    said = complaints(ROOT, f"v{__version__}", REPOSITORY)
    assert not [line for line in said if "tag" in line]
    assert f"## {__version__} - " in (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n", 5)[4]
