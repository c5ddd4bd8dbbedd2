"""The helpers of the live tests: a missing client is a failure in CI and a visible skip elsewhere."""

from pathlib import Path

import pytest

from tests.harness.live import PROGRAMS, environment, require


@pytest.fixture(autouse=True)
def no_such_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make PATH empty."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize("program", PROGRAMS)
def test_missing_program_skips(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CI, a test whose program is missing is skipped with advice."""
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match=f"{program} is not installed; .* {PROGRAMS[program]}"):
        require(program)


def test_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI, a test whose program is missing fails."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="curl is not installed"):
        require("curl")


def test_child_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes get our environment without options of a relay, and the added variables."""
    monkeypatch.setenv("WSRELAY_ECHO", "1")
    monkeypatch.setenv("OTHER", "kept")
    given = environment({"WSRELAY_ECHO": "0"})
    assert (given["WSRELAY_ECHO"], given["OTHER"]) == ("0", "kept")
    assert "WSRELAY_ECHO" not in environment()
