"""deploy/README.md lists all files of deploy/."""

import pytest

from tests.deploy.files import DEPLOY

pytestmark = pytest.mark.deploy


def test_deploy_readme() -> None:
    """The table has a link to each file or to its folder."""
    text = (DEPLOY / "README.md").read_text("utf-8")
    for file in DEPLOY.rglob("*"):
        if file.is_file() and file.name != "README.md":
            name = file.relative_to(DEPLOY)
            assert f"({name})" in text or f"({name.parts[0]}/{name.parts[1]})" in text, name
