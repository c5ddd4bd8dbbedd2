"""Tests of the harness for browsers, in each of them."""

from collections.abc import Iterator

import pytest

from tests.harness.browsers import AnyBrowser, AnyPage, blank_site

pytestmark = pytest.mark.deploy


@pytest.fixture
def page(each_browser: AnyBrowser) -> Iterator[AnyPage]:
    """A page of http://a.localhost."""
    with blank_site() as port:
        opened = each_browser.page(f"http://a.localhost:{port}/")
        yield opened
        opened.close()


def test_page_run(page: AnyPage) -> None:
    """The value of an expression, and of a promise, arrives as JSON has it."""
    assert page.run("[1, 2.5, 'é', true, null, {a: {b: []}}]") == [1, 2.5, "é", True, None, {"a": {"b": []}}]
    assert page.run("Promise.resolve({x: 'later'})") == {"x": "later"}
    assert page.run("undefined") is None


def test_page_error(page: AnyPage) -> None:
    """An exception, and a rejected promise, fail the test with its text."""
    for script in ("wrong()", "Promise.reject(new Error('wrong'))"):
        with pytest.raises(AssertionError, match="wrong"):
            page.run(script)


def test_page_go(page: AnyPage) -> None:
    """Names below localhost are origins of their own, served by this machine."""
    port = page.run("location.port")
    assert page.run("origin") == f"http://a.localhost:{port}"
    page.go(f"http://b.localhost:{port}/")
    assert page.run("origin") == f"http://b.localhost:{port}"


def test_page_until(page: AnyPage) -> None:
    """A condition is awaited, without polling."""
    page.run("setTimeout(() => document.body.append('written'), 20)")
    assert page.until("document.body.innerText.includes('written') && document.title") == "blank"
