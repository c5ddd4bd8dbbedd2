"""Fixtures of several modules."""

from pathlib import Path

import pytest

from tests.harness.live import make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for localhost and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
