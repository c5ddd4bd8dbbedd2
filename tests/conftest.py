"""Settings of all tests: Hypothesis' profile, which tests count as coverage, and the browsers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.browsers import BROWSERS, Browser, Driver

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


@pytest.fixture(scope="session")
def browser_driver() -> Iterator[Driver]:
    """Playwright; a test with it must be marked deploy."""
    with Driver() as driver:
        yield driver


@pytest.fixture(scope="module", params=BROWSERS)
def each_browser(request: pytest.FixtureRequest, browser_driver: Driver) -> Browser:
    """A running browser; a test with it runs once per browser, and must be marked deploy."""
    return browser_driver.browser(request.param)
