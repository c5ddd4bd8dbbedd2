"""What several of these tests share."""

from pathlib import Path

import pytest

from tests.harness.live import make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
