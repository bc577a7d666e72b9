"""The gallery: how it opens, loads as one scrolls, and is searched by name."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.serving.page.browser import visiting
from tests.serving.web.fake import FakeRetriever

pytestmark = pytest.mark.page
BUDGET = 100 * 1024


def rows_asked_for(visit, path):
    return [urlsplit(request.url) for request in visit.sent if urlsplit(request.url).path.startswith(path)]


def test_the_page_opens_within_its_budget(visit):
    sizes = []
    visit.page.on(
        "requestfinished",
        lambda request: sizes.append((request.resource_type, request.sizes()["responseBodySize"])),
    )
    visit.open()
    assert 0 < sum(size for kind, size in sizes if kind != "image") < BUDGET
    painted = visit.page.evaluate(
        "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
    )
    assert 0 < painted[0] < 1000
    visit.picture("gallery")


def test_no_markup_has_scripts_or_styles_of_its_own(visit):
    visit.open("#item=3")
    html = visit.page.request.get(visit.address).text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


def test_garments_load_as_one_scrolls(visit):
    visit.open()
    assert visit.find("#gallery-list li").count() == 60
    assert len(rows_asked_for(visit, "/images/")) < 60
    visit.page.mouse.wheel(0, 20_000)
    expect(visit.find('#gallery-list a[data-item="100"]')).to_be_attached()
    for _ in range(20):
        visit.page.mouse.wheel(0, 20_000)
        visit.settle()
    assert visit.find("#gallery-list li").count() == 300
    offsets = [int(parse_qs(url.query)["offset"][0]) for url in rows_asked_for(visit, "/api/items")]
    assert offsets == [0, 60, 120, 180, 240]


def test_names_are_searched_and_are_in_the_address(visit):
    visit.open()
    visit.find("#name").press_sequentially("0012", delay=20)
    expect(visit.find("#gallery-count")).to_have_text("11 garments")
    names = visit.find("#gallery-list .name").all_inner_texts()
    assert names == ["00012", *(f"0012{i}" for i in range(10))]
    assert visit.state == "#name=0012"
    visit.page.reload()
    expect(visit.find("#gallery-count")).to_have_text("11 garments")
    assert visit.find("#name").input_value() == "0012"
    visit.find("#name").fill("nowhere")
    expect(visit.find("#gallery-count")).to_have_text("No name contains “nowhere”.")


def test_the_last_of_several_names_wins(visit):
    visit.open()
    held = []
    visit.page.route("**/api/items?*name=0001*", lambda route: held.append(route))
    visit.find("#name").fill("0001")
    visit.page.wait_for_timeout(250)
    visit.find("#name").fill("0002")
    expect(visit.find("#gallery-list .name").first).to_have_text("00002")
    for route in held:
        route.continue_()
    visit.settle()
    expect(visit.find("#gallery-list .name").first).to_have_text("00002")


def test_going_back_returns_to_the_same_place(visit):
    visit.open()
    visit.find('#gallery-list a[data-item="40"]').scroll_into_view_if_needed()
    before = visit.page.evaluate("scrollY")
    visit.pick(40)
    assert visit.page.evaluate("scrollY") == 0
    visit.page.go_back()
    expect(visit.find("#gallery")).to_be_visible()
    assert before > 0
    assert visit.page.evaluate("scrollY") == before
    assert visit.focused == "40"


def test_names_and_values_are_never_markup(browser, serve):
    shop = FakeRetriever(5)
    attack = "<img src=x onerror=alert(1)>"
    shop.names = [f"{attack}{i}" for i in range(5)]
    with visiting(browser, serve(shop, gallery=attack)) as visit:
        visit.open()
        assert visit.find("#brand").inner_text() == attack
        visit.pick(2)
        assert visit.find("#garment-name").inner_text() == f"{attack}2"
        visit.say(attack.replace("red", ""))
        assert visit.find("img[src=x]").count() == 0


def test_errors_of_the_server_are_sentences(browser, address):
    failing = ("Failed to load resource",)
    with visiting(browser, address, allowed=failing) as visit:
        visit.open("#item=12345")
        expect(visit.find("#trouble")).to_contain_text("12345")
        expect(visit.find("#gallery-list li")).to_have_count(60)
        visit.page.route(
            "**/api/search", lambda route: route.fulfill(status=503, json={"error": "too many ask at once"})
        )
        visit.find("#gallery-list a").first.click()
        expect(visit.find("#search-trouble")).to_have_text("Too many ask at once. Try again")
        visit.page.unroute("**/api/search")
        visit.find("#search-trouble button").click()
        expect(visit.find("#results li")).to_have_count(24)
        expect(visit.find("#search-trouble")).to_be_empty()
        visit.page.route("**/api/words", lambda route: route.abort())
        visit.say("red")
        expect(visit.find("#replies")).to_have_text("The server does not answer. Is it still running?")
