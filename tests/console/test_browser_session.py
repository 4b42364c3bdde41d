"""A session that ends while its page is open in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import S3Bucket
from tests.console.conftest import assert_fits_and_is_accessible
from tests.service.harness import Service, running, service_environment

TOKEN = "an-operators-token-of-32-characters"
WAIT_MS = 60_000


@pytest.fixture
def guarded(redis_url: str, s3: S3Bucket) -> Iterator[Service]:
    """A service whose admin port asks for a token."""
    environment = service_environment(redis_url, s3.address.endpoint_url, s3.bucket, ADMIN__TOKEN=TOKEN)
    with running(environment, roles="delete") as service:
        yield service


def log_in(page: Page, service: Service) -> None:
    page.goto(f"{service.admin_url}/console")
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Last hour")).to_be_visible()


def test_a_page_whose_session_is_over_leads_to_the_login(browser: Browser, guarded: Service) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page, other = context.new_page(), context.new_page()
    page.goto(f"{guarded.admin_url}/console")
    assert_fits_and_is_accessible(page)
    log_in(page, guarded)
    with page.expect_response("**/console/live*"):
        page.reload()
    other.goto(f"{guarded.admin_url}/console")
    other.locator(".account summary").click()
    other.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token", exact=True)).to_be_visible(timeout=WAIT_MS)
    context.close()
