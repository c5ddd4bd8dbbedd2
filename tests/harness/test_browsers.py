"""Tests of the harness for browsers, in each of them."""

from collections.abc import Iterator

import pytest

from tests.harness.browsers import Browser, Page, blank_site
from tests.harness.live import until

pytestmark = pytest.mark.deploy


@pytest.fixture
def page(each_browser: Browser) -> Iterator[Page]:
    """A page of http://a.localhost."""
    with blank_site() as port:
        opened = each_browser.page(f"http://a.localhost:{port}/")
        yield opened
        opened.close()


def test_page_run(page: Page) -> None:
    """The value of an expression, and of a promise, arrives as JSON has it."""
    assert page.run("[1, 2.5, 'é', true, null, {a: {b: []}}]") == [1, 2.5, "é", True, None, {"a": {"b": []}}]
    assert page.run("Promise.resolve({x: 'later'})") == {"x": "later"}
    assert page.run("undefined") is None


def test_page_error(page: Page) -> None:
    """An exception, and a rejected promise, fail the test with its text."""
    for script in ("wrong()", "Promise.reject(new Error('wrong'))"):
        with pytest.raises(Exception, match="wrong"):
            page.run(script)


def test_page_go(page: Page) -> None:
    """Names below localhost are origins of their own, served by this machine."""
    port = page.run("location.port")
    assert page.run("origin") == f"http://a.localhost:{port}"
    page.go(f"http://b.localhost:{port}/")
    assert page.run("origin") == f"http://b.localhost:{port}"


def test_page_until(page: Page) -> None:
    """A condition is awaited, without polling."""
    page.run("setTimeout(() => document.body.append('written'), 20)")
    assert page.until("document.body.innerText.includes('written') && document.title") == "blank"


COMPLAINTS = {
    "warning": "console.warn('wrong')",
    "error": "console.error('wrong')",
    "exception": "setTimeout(() => { throw new Error('wrong'); })",
    "rejection": "setTimeout(() => Promise.reject(new Error('wrong')))",
    "policy": "document.body.append(Object.assign(document.createElement('img'), {src: 'data:wrong'}))",
}


@pytest.mark.parametrize("kind", COMPLAINTS)
def test_page_complaints(page: Page, kind: str) -> None:
    """What the console tells, exceptions and violations of a policy are complaints; a good page has none."""
    assert page.complaints() == []
    policy = "<meta http-equiv='Content-Security-Policy' content='img-src http:'>"
    page.run(f'document.head.insertAdjacentHTML("beforeend", "{policy}")')
    page.run(COMPLAINTS[kind] + "; null")
    until(lambda: bool(page.complaints()))
