"""What a person does with a garment, click by click."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from gradrev_jax.serving.changes import Change
from tests.serving.page.browser import visiting
from tests.serving.web.fake import FakeQuestion, FakeRequest, FakeRetriever

pytestmark = pytest.mark.page


def labels_of(shop, row):
    """The labels of a garment by attribute, None where there is none."""
    return {
        name: None if label < 0 else values[label]
        for name, values, label in zip(shop.schema.names, shop.schema.values, shop.labels[row], strict=True)
    }


def differences(shop, row, wanted):
    """The lines that a result should have: what it is, and what it should be."""
    has = labels_of(shop, row)
    return [
        f"{name} not labelled" if has[name] is None else f"{name} {has[name]}, not {value}"
        for name, value in wanted.items()
        if value is not None and has[name] != value
    ]


def complete(shop, **wanted):
    """The first garment with a label for every attribute, and with these ones."""
    for row in range(shop.num_items):
        labels = labels_of(shop, row)
        if None not in labels.values() and wanted.items() <= labels.items():
            return row
    raise AssertionError(wanted)


@pytest.fixture(scope="module")
def blue(shop):
    """A blue garment that is labelled throughout."""
    return complete(shop, color="blue", sleeve="short")


def check_results(visit, shop, wanted):
    """Compares every result's marks with the labels."""
    rows = visit.results
    assert rows
    exact = 0
    for row in rows:
        expected = differences(shop, row, wanted)
        exact += not expected
        assert visit.notes(row).split("\n") == (expected or ["✓ exactly as asked"])
        is_marked = visit.find(f'#results li.exact a[data-item="{row}"]').count() == 1
        assert is_marked == (not expected)
    return exact


def test_words_become_changes(visit, shop, blue):
    visit.open(f"#item={blue}")
    visit.say("but red, with long sleeves")
    assert visit.changes == ["red", "long"]
    assert visit.state == f"#item={blue}&change=color:red&change=sleeve:long"
    wanted = labels_of(shop, blue) | {"color": "red", "sleeve": "long"}
    check_results(visit, shop, wanted)
    assert visit.find("#words").input_value() == ""
    visit.picture("words")


def test_words_for_how_much_move_the_slider(browser, serve, shop, blue):
    def words(text):
        return FakeRequest((Change("color", "red", 0.5),), (), ())

    with visiting(browser, serve(shop, words)) as visit:
        visit.open(f"#item={blue}")
        visit.say("a little red")
        assert visit.find("#strength").input_value() == "0.5"
        assert visit.searches()[-1].post_data_json["changes"][0]["strength"] == 0.5
        assert visit.state.endswith("&strength=0.5")


def test_what_is_ambiguous_is_asked_back_and_what_is_unknown_is_said(visit, blue):
    visit.open(f"#item={blue}")
    visit.say("dark and fluffy")
    expect(visit.find("#replies")).to_contain_text("No value of this gallery is called “fluffy”.")
    assert visit.changes == []
    question = visit.find(".question")
    expect(question).to_contain_text("Which “dark”?")
    expect(question.locator("button")).to_have_text(["color black", "color blue", "color grey"])
    visit.picture("asked_back")
    question.locator("button", has_text="grey").click()
    visit.settle()
    assert visit.changes == ["grey"]
    expect(question).to_have_count(0)
    sent = len(visit.searches())
    visit.say("grey")
    expect(visit.find("#replies")).to_have_text("The color is grey already.")
    assert len(visit.searches()) == sent


def test_a_denial_that_is_asked_back_takes_away_what_is_chosen(browser, serve, shop, blue):
    options = tuple(
        Change(name, None, 1.0, (value,)) for name, value in (("color", "blue"), ("sleeve", "long"))
    )

    def words(text):
        return FakeRequest((), (FakeQuestion("dull", options),), ())

    with visiting(browser, serve(shop, words)) as visit:
        visit.open(f"#item={blue}")
        visit.say("too dull")
        question = visit.find(".question")
        expect(question.locator("button")).to_have_text(["color not blue", "sleeve not long"])
        question.locator("button", has_text="sleeve").click()
        visit.settle()
        assert visit.changes == ["not long"]
        assert visit.state == f"#item={blue}&not=sleeve:long"


def test_a_chip_offers_the_values_that_have_results(visit, shop, blue):
    visit.open(f"#item={blue}")
    visit.chip("color").click()
    own = labels_of(shop, blue)
    others = np.delete(np.arange(shop.num_items), blue)
    counts = {
        value: sum(not differences(shop, row, own | {"color": value}) for row in others)
        for value in shop.schema.values[1]
    }
    offered = visit.offered()
    assert offered.pop("not blue") is None
    assert offered == {"blue": None} | {v: count for v, count in counts.items() if count and v != "blue"}
    expect(visit.find("#values [aria-current]")).to_contain_text("blue")
    visit.picture("values")
    value = next(value for value in offered if value != "blue")
    visit.find(f'#values button[data-key="{value}"]').click()
    visit.settle()
    assert visit.changes == [value]
    assert check_results(visit, shop, own | {"color": value}) == counts[value]
    expect(visit.chip("color")).to_contain_text(value)
    assert visit.focused == "color"


def check_unwanted(visit, shop, wanted, unwanted):
    """Compares every result's mark with the labels, where a color may be any but some."""
    for row in visit.results:
        color = labels_of(shop, row)["color"]
        expected = differences(shop, row, wanted | {"color": None})
        expected = [*([f"color {color}"] if color in unwanted else []), *expected]
        has = sorted(visit.notes(row).split("\n"))
        assert has == sorted(expected or ["✓ exactly as asked"])


def test_a_value_is_removed_and_those_that_have_it_are_not_marked(visit, shop, blue):
    visit.open(f"#item={blue}")
    visit.choose("color", "not blue")
    assert visit.changes == ["not blue"]
    assert visit.state == f"#item={blue}&change=color"
    expect(visit.chip("color")).to_contain_text("not blue")
    assert "blue" in {labels_of(shop, row)["color"] for row in visit.results}
    check_unwanted(visit, shop, labels_of(shop, blue), {"blue"})


def test_unwanted_values_are_left_out_and_add_up(visit, shop, blue):
    visit.open(f"#item={blue}")
    visit.say("not black")
    visit.say("not red")
    assert visit.changes == ["not black or red"]
    assert visit.state == f"#item={blue}&not=color:black&not=color:red"
    expect(visit.chip("color")).to_contain_text("not black or red")
    check_unwanted(visit, shop, labels_of(shop, blue), {"black", "red"})
    assert not {"black", "red"} & {labels_of(shop, row)["color"] for row in visit.results}
    assert visit.results
    visit.say("not red")
    expect(visit.find("#replies")).to_have_text("The color is not red already.")
    visit.page.reload()
    visit.settle()
    assert visit.changes == ["not black or red"]
    visit.say("green")
    assert visit.changes == ["green"]
    visit.say("not red")
    assert visit.changes == ["green"]


def test_a_panel_closes_at_its_button_and_with_escape(visit, blue):
    visit.open(f"#item={blue}")
    visit.chip("color").click()
    expect(visit.find("#values")).to_be_visible()
    visit.chip("color").click(delay=150)  # as long as a person presses
    expect(visit.find("#values")).to_be_hidden()
    visit.page.wait_for_timeout(100)
    expect(visit.find("#values")).to_be_hidden()
    visit.chip("color").click()
    visit.page.keyboard.press("Escape")
    expect(visit.find("#values")).to_be_hidden()
    assert visit.focused == "color"
    expect(visit.chip("color")).to_have_attribute("aria-expanded", "false")


def test_colors_have_swatches_and_other_values_have_words(visit, blue):
    visit.open(f"#item={blue}")
    swatch = visit.chip("color").locator(".swatch")
    assert swatch.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(0, 0, 255)"
    assert visit.chip("category").locator(".swatch").count() == 0


def test_changes_chain_are_removed_undone_and_redone(visit, blue):
    visit.open(f"#item={blue}")
    expect(visit.find("#undo")).to_have_attribute("aria-disabled", "true")
    visit.say("red")
    visit.say("long")
    visit.say("women")
    assert visit.changes == ["red", "long", "women"]
    visit.find("#changes button").nth(1).click()
    assert visit.changes == ["red", "women"]
    visit.find("#undo").click()
    assert visit.changes == ["red", "long", "women"]
    visit.page.keyboard.press("Control+z")
    assert visit.changes == ["red", "long"]
    visit.page.keyboard.press("Control+z")
    visit.page.keyboard.press("Control+z")
    visit.page.keyboard.press("Control+z")
    assert visit.changes == []
    visit.page.keyboard.press("Control+Shift+z")
    assert visit.changes == ["red"]
    visit.find("#redo").click()
    assert visit.changes == ["red", "long"]
    visit.say("white")
    expect(visit.find("#redo")).to_have_attribute("aria-disabled", "true")
    assert visit.changes == ["long", "white"]


def test_undo_in_a_field_is_the_browsers_own(visit, blue):
    visit.open(f"#item={blue}")
    visit.say("red")
    visit.find("#words").press_sequentially("long")
    visit.page.keyboard.press("Control+z")
    assert visit.changes == ["red"]


def test_filters_leave_only_what_is_labelled_so(visit, shop, blue):
    visit.open(f"#item={blue}&change=color:red")
    visit.find("#filter").click()
    visit.find("#filter-panel summary", has_text="gender").click()
    for value in ("women", "girls"):
        visit.find("#filter-panel label", has_text=re.compile(f"^{value}")).click()
        visit.settle()
    visit.picture("filter")
    visit.page.keyboard.press("Escape")
    assert visit.state.endswith("&where=gender:women&where=gender:girls")
    assert {labels_of(shop, row)["gender"] for row in visit.results} == {"women", "girls"}
    visit.find("#filters button").first.click()
    visit.settle()
    assert {labels_of(shop, row)["gender"] for row in visit.results} == {"girls"}


def test_a_result_is_gone_on_from(visit, blue):
    visit.open(f"#item={blue}&change=color:red&where=gender:women")
    row = visit.results[2]
    visit.find("#results a").nth(2).click()
    expect(visit.find("#garment-name")).to_have_text(f"{row:05d}")
    visit.settle()
    assert visit.state == f"#item={row}:garments%2F{row:05d}.jpg&where=gender:women"
    assert row not in visit.results
    assert visit.focused == "ask-title"
    visit.page.keyboard.press("Control+z")
    expect(visit.find("#garment-name")).to_have_text(f"{blue:05d}")
    assert visit.changes == ["red"]


def test_the_address_restores_everything(visit, browser, address, blue):
    visit.open(f"#item={blue}")
    visit.say("red")
    visit.find("#strength").fill("1.5")
    visit.find("#look").fill("0.25")
    visit.settle()
    visit.find("#filter").click()
    visit.find("#filter-panel summary", has_text="sleeve").click()
    visit.find("#filter-panel label", has_text="long").click()
    visit.settle()
    assert visit.state == f"#item={blue}&change=color:red&where=sleeve:long&strength=1.5&look=0.25"
    results = visit.results
    with visiting(browser, address) as another:
        another.open(visit.state)
        assert another.results == results
        assert another.changes == ["red"]
        assert another.find("#strength").input_value() == "1.5"
        assert another.find("#look").input_value() == "0.25"
    visit.page.reload()
    visit.settle()
    assert visit.results == results


def test_an_address_names_its_garment_where_the_gallery_has_changed(browser, serve):
    """Rows are counted anew; a link that was sent before opens the garment that it was sent for."""
    shop = FakeRetriever(300)
    with visiting(browser, serve(shop), allowed=["409"]) as visit:
        visit.open()
        visit.pick(7)
        assert visit.state == "#item=7:garments%2F00007.jpg"
        shop.names[7] = "another.jpg"
        visit.say("blue")
        expect(visit.find("#search-trouble")).to_contain_text(
            "The gallery has changed: item 7 is 'another.jpg' now; reload it."
        )
    shop.names[6:8] = ["another.jpg", "garments/00006.jpg"]
    with visiting(browser, serve(shop)) as visit:
        visit.open("#item=7:garments%2F00007.jpg")
        expect(visit.find("#trouble")).to_contain_text("00007 is no longer in this gallery.")
        visit.open("#item=6:garments%2F00006.jpg&change=color:blue")
        expect(visit.find("#garment-name")).to_have_text("00006")
        assert visit.state == "#item=7:garments%2F00006.jpg&change=color:blue"
        assert visit.changes == ["blue"]


def test_a_late_answer_to_words_does_not_change_another_garment(visit, blue):
    visit.open(f"#item={blue}")
    held = []
    visit.page.route("**/api/words", lambda route: held.append(route))
    visit.find("#words").fill("red")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_timeout(100)
    visit.find("#results a").nth(2).click()
    visit.page.wait_for_timeout(300)
    for route in held:
        route.continue_()
    visit.settle()
    assert held
    visit.page.wait_for_timeout(100)
    assert visit.changes == []
    assert visit.find("#replies").inner_text() == ""


@pytest.mark.parametrize("asked", ["not=neckline:round", "change=neckline", "change=neckline:round"])
def test_an_attribute_that_the_gallery_lacks_is_said(browser, address, blue, asked):
    with visiting(browser, address, allowed=["400"]) as visit:
        visit.open(f"#item={blue}&{asked}")
        expect(visit.find("#search-trouble")).to_contain_text("neckline")


def test_a_gallery_without_labels_offers_all_values_and_marks_nothing(browser, serve):
    shop = FakeRetriever(300)
    shop.labels[:] = -1
    with visiting(browser, serve(shop)) as visit:
        visit.open("#item=3")
        expect(visit.find("#summary")).to_have_text("No garment here is labelled; these come nearest")
        assert visit.find("#results .exact, #results .differs").count() == 0
        visit.chip("color").click()
        assert {*shop.schema.values[1]} <= {*visit.offered()}
        expect(visit.find("#values")).to_contain_text("No garment here is labelled for color")
        visit.find('#values button[data-key="red"]').click()
        visit.settle()
        assert visit.changes == ["red"]


def test_back_and_forward_follow_every_step(visit, blue):
    visit.open()
    visit.pick(blue)
    visit.say("red")
    visit.say("long")
    visit.page.go_back()
    expect(visit.find("#changes li")).to_have_count(1)
    visit.page.go_back()
    expect(visit.find("#changes li")).to_have_count(0)
    visit.page.go_back()
    expect(visit.find("#gallery")).to_be_visible()
    visit.page.go_forward()
    visit.page.go_forward()
    expect(visit.find("#changes li")).to_have_count(1)
    assert visit.changes == ["red"]
    visit.page.keyboard.press("Control+Shift+z")
    expect(visit.find("#changes li")).to_have_count(2)


def test_a_damaged_address_shows_what_can_be_read(visit, blue):
    visit.open(f"#item={blue}&change=%E0%A4%A&strength=NaN&look=99&where=gender&nothing=1&change=color:red")
    assert visit.changes == ["red"]
    assert visit.find("#strength").input_value() == "1"


def test_an_unknown_value_in_an_address_is_said(browser, address, blue):
    with visiting(browser, address, allowed=("Failed to load resource",)) as visit:
        visit.open(f"#item={blue}&change=color:chartreuse")
        expect(visit.find("#search-trouble")).to_contain_text("chartreuse")


COUNTING = """
  const send = window.fetch;
  window.searching = { now: 0, most: 0 };
  window.fetch = async (...request) => {
    if (!request[0].includes("search")) return send(...request);
    searching.most = Math.max(searching.most, ++searching.now);
    try { return await send(...request); } finally { searching.now -= 1; }
  };
"""


@pytest.mark.parametrize("name", ["strength", "look"])
def test_results_follow_a_slider_while_it_moves(browser, serve, name):
    shop = FakeRetriever(300, delay=0.08)
    with visiting(browser, serve(shop), script=COUNTING) as visit:
        visit.open(f"#item={complete(shop, color='blue')}&change=color:red")
        before, sent = visit.results, len(visit.searches())
        box = visit.find(f"#{name}").bounding_box()
        visit.page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
        visit.page.mouse.down()
        for step in range(60):
            visit.page.mouse.move(box["x"] + 2 + step / 60 * box["width"], box["y"] + box["height"] / 2)
            visit.page.wait_for_timeout(10)
        visit.settle()
        during, moved = visit.results, len(visit.searches()) - sent
        assert during != before
        assert 2 <= moved < 60
        assert visit.page.evaluate("searching.most") == 1
        visit.page.mouse.up()
        visit.settle()
        asked = visit.searches()[-1].post_data_json
        answer = visit.page.request.post(f"{visit.address}api/search", data=asked).json()
        assert visit.results == [item["item"] for item in answer["items"]] == during
        value = float(visit.find(f"#{name}").input_value())
        assert (asked["look"] if name == "look" else asked["changes"][0]["strength"]) == value
        assert f"&{name}={value:g}" in visit.state
        visit.page.keyboard.press("Control+z")
        visit.settle()
        assert visit.results == before


def test_the_newest_answer_wins(visit, blue):
    visit.open(f"#item={blue}")
    held = []

    def hold_the_first(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    visit.page.route("**/api/search", hold_the_first)
    visit.find("#words").fill("red")
    visit.page.keyboard.press("Enter")
    expect(visit.find("#changes li")).to_have_count(1)
    visit.find("#words").fill("green")
    visit.page.keyboard.press("Enter")
    expect(visit.chip("color")).to_contain_text("green")
    visit.settle()
    newest = visit.results
    for route in held:
        route.continue_()
    visit.page.wait_for_timeout(200)
    assert visit.results == newest
    expect(visit.find("#search-trouble")).to_be_empty()
    answer = visit.page.request.post(
        f"{visit.address}api/search", data=visit.searches()[-1].post_data_json
    ).json()
    assert newest == [item["item"] for item in answer["items"]]


def test_a_run_without_look_has_one_slider(browser, serve):
    shop = FakeRetriever(100, has_look=False)
    with visiting(browser, serve(shop)) as visit:
        visit.open(f"#item=3&change=color:{'red' if labels_of(shop, 3)['color'] != 'red' else 'blue'}")
        expect(visit.find("#look")).to_be_hidden()
        expect(visit.find("#strength")).to_be_visible()
        assert visit.results
        assert "look" not in visit.searches()[-1].post_data_json


def photograph():
    out = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 30, 30)).save(out, "PNG")
    return {"name": "my skirt.png", "mimeType": "image/png", "buffer": out.getvalue()}


def test_a_photograph_is_chosen_and_is_not_in_the_address(browser, address):
    with visiting(browser, address) as visit:
        visit.open()
        visit.find("#photo").set_input_files(photograph())
        expect(visit.find("#garment-name")).to_have_text("my skirt")
        visit.settle()
        assert len(visit.results) == 24
        expect(visit.chip("color")).to_have_text(re.compile("black (perhaps|likely)"))
        expect(visit.find("#photo-note")).to_be_visible()
        expect(visit.find("#share")).to_be_hidden()
        pixel = visit.find("#garment-picture canvas").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(150, 100, 1, 1).data]"
        )
        assert pixel == [200, 30, 30, 255]
        visit.say("green")
        assert visit.changes == ["green"]
        visit.picture("photograph")
        visit.page.reload()
        expect(visit.find("#trouble")).to_have_text(
            "An address cannot bring a photograph back. Choose it again."
        )
        expect(visit.find("#gallery-list li")).to_have_count(60)


def test_a_photograph_is_dropped(visit):
    visit.open()
    transfer = visit.page.evaluate_handle(
        """async () => {
          const canvas = document.createElement("canvas");
          const blob = await new Promise((resolve) => canvas.toBlob(resolve));
          const transfer = new DataTransfer();
          transfer.items.add(new File([blob], "dropped.png", {type: "image/png"}));
          return transfer;
        }"""
    )
    visit.page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    expect(visit.find("#drop")).to_be_visible()
    visit.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(visit.find("#garment-name")).to_have_text("dropped")
    expect(visit.find("#drop")).to_be_hidden()


def test_a_file_that_is_no_image_is_said(browser, address):
    with visiting(browser, address, allowed=("Failed to load resource",)) as visit:
        visit.open()
        visit.find("#photo").set_input_files(
            {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"}
        )
        expect(visit.find("#trouble")).to_contain_text("image")


def test_the_time_from_click_to_pictures_is_shown(visit, blue):
    visit.open()
    visit.pick(blue)
    expect(visit.find("#clock")).to_have_text(re.compile(r"^\d+ ms from click to pictures$"))
    visit.say("red")
    visit.say("long")
    expect(visit.find("#clock")).to_have_attribute("title", "Median of 3")


def test_more_results_are_shown(visit, blue):
    visit.open(f"#item={blue}&change=color:red")
    first = visit.results
    visit.find("#more").click()
    expect(visit.find("#results li")).to_have_count(48)
    assert visit.results[:24] == first


def test_the_link_is_copied(browser, address, blue):
    with visiting(browser, address, permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.open(f"#item={blue}&change=color:red")
        visit.find("#share").click()
        expect(visit.find("#share")).to_have_text("Copied")
        assert (
            visit.page.evaluate("navigator.clipboard.readText()") == f"{address}#item={blue}&change=color:red"
        )
