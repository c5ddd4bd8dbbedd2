"""Settings of all tests: Hypothesis' profile, and which tests count as coverage."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TOOLS = Path(__file__).parent / "tools"

#: Marks of tests that are not in memory, see setup.cfg.
NOT_IN_MEMORY = ("interop", "deploy", "packaging")

# A busy machine is slow without a bug. In CI, Hypothesis itself adds its profile "ci": derandomized, no database.
settings.register_profile("wsrelay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wsrelay")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pause coverage during tests that are not in memory, and during those of the tools."""
    if not config.pluginmanager.hasplugin("_cov"):
        return
    for item in items:
        if item.path.is_relative_to(TOOLS) or any(map(item.get_closest_marker, NOT_IN_MEMORY)):
            item.add_marker("no_cover")
