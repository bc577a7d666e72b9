"""The page for everybody: keyboard alone, screen readers, phones, light and dark."""

import pytest
from playwright.sync_api import expect

from gradrev_jax.core.attributes import AttributeSchema
from tests.serving.page.browser import DESKTOP, PHONE, SMALLEST, visiting
from tests.serving.page.test_story import photograph
from tests.serving.web.fake import FakeRetriever

pytestmark = pytest.mark.page


def press(visit, *keys):
    for key in keys:
        visit.page.keyboard.press(key)
    visit.settle()


def check_focus(visit):
    """The focus is somewhere, and can be seen there, but for headings, which cannot be acted on."""
    assert visit.focused != "BODY"
    outline = visit.page.evaluate(
        """() => {
          const node = document.activeElement;
          if (node.tagName === "H1") return true;
          if (node.id === "words") {
            const ink = getComputedStyle(document.body).color;
            return getComputedStyle(node.closest("form")).borderBottomColor !== ink;
          }
          const shown = node.id === "photo" ? node.parentElement : node;
          return getComputedStyle(shown).outlineStyle !== "none";
        }"""
    )
    assert outline, visit.focused


def test_all_can_be_done_with_the_keyboard_alone(visit, shop):
    visit.open()
    press(visit, "Tab")
    assert visit.focused == "skip"
    press(visit, "Tab", "Tab")
    assert visit.focused == "name"
    press(visit, "Tab")
    assert visit.focused == "photo"
    check_focus(visit)
    press(visit, "Shift+Tab", "Shift+Tab", "Shift+Tab", "Enter")
    assert visit.focused == "0"
    press(visit, "Tab", "Tab", "Tab")
    check_focus(visit)
    assert visit.focused == "3"
    press(visit, "Enter")
    assert visit.focused == "ask-title"
    press(visit, "Tab")
    assert visit.focused == "words"
    check_focus(visit)
    visit.page.keyboard.type("dark")
    press(visit, "Enter")
    press(visit, "Tab", "Tab")
    expect(visit.find("*:focus")).to_contain_text("black")
    check_focus(visit)
    press(visit, "Enter")
    assert visit.changes == ["black"]
    assert visit.focused == "words"
    # back to the sliders and the chips, which come before the words
    press(visit, *["Shift+Tab"] * 2)
    assert visit.focused == "look"
    press(visit, "ArrowRight")
    assert "look=0.55" in visit.state
    check_focus(visit)
    press(visit, *["Shift+Tab"] * 3)
    assert visit.focused == "sleeve"
    press(visit, "Enter")
    expect(visit.find("#values")).to_be_visible()
    check_focus(visit)
    first = visit.focused
    press(visit, "ArrowDown")
    assert visit.focused != first
    press(visit, "End")
    sleeve = f"not {shop.schema.values[2][shop.labels[3, 2]]}"
    assert visit.focused == sleeve
    press(visit, "Enter")
    assert visit.changes == ["black", sleeve]
    assert visit.focused == "sleeve"
    # a change is removed, and the focus goes to the next
    visit.find("#changes button").first.focus()
    press(visit, "Enter")
    assert visit.changes == [sleeve]
    assert visit.focused in ("sleeve", "ask-title")
    press(visit, "Control+z")
    assert visit.changes == ["black", sleeve]
    visit.find("#filter").focus()
    press(visit, "Enter", "ArrowDown", "Enter", "ArrowDown", "Space")
    assert "&where=" in visit.state
    check_focus(visit)
    press(visit, "Escape")
    assert visit.focused == "filter"
    visit.find("#skip").focus()
    press(visit, "Enter")
    assert visit.focused == str(visit.results[0])
    press(visit, "Enter")
    assert visit.focused == "ask-title"


def test_results_are_read_out_once_they_are_quiet(visit):
    visit.open("#item=3")
    visit.say("red")
    expect(visit.find("#announcement")).to_have_text(
        visit.page.evaluate("`24 results. ${document.getElementById('summary').textContent}.`")
    )


STATES = {
    "gallery": "",
    "picked": "#item=3",
    "changed": "#item=3&change=color:red&change=sleeve&where=gender:women",
    "nothing": "#name=nowhere",
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(browser, address, axe, size, dark):
    name = f"{'phone' if size is PHONE else 'desktop'}_{'dark' if dark else 'light'}"
    with visiting(browser, address, size=size, dark=dark, still=True, script=axe) as visit:
        for state, hash_ in STATES.items():
            visit.page.goto("about:blank")
            visit.open(hash_)
            check_axe(visit, f"{name}_{state}")
        visit.open(STATES["changed"])
        visit.say("dark fluffy")
        check_axe(visit, f"{name}_asked")
        visit.chip("color").click()
        check_axe(visit, f"{name}_values")
        visit.page.keyboard.press("Escape")
        visit.find("#filter").click()
        visit.find("#filter-panel summary").first.click()
        check_axe(visit, f"{name}_filter")
        visit.page.keyboard.press("Escape")
        visit.find("#photo").set_input_files(photograph())
        expect(visit.find("#photo-note")).to_be_visible()
        visit.settle()
        check_axe(visit, f"{name}_photo")


def check_axe(visit, name):
    visit.picture(name)
    found = visit.page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map("
        "(each) => [each.id, each.help, ...each.nodes.map((node) => node.html + ' ' + node.failureSummary)]))"
    )
    assert found == [], name


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_nothing_is_wider_than_a_small_phone(browser, address, state):
    with visiting(browser, address, size=SMALLEST, is_mobile=True, has_touch=True) as visit:
        visit.open(state)
        assert visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]


def test_many_attributes_and_long_names_fit_a_small_phone(browser, serve):
    names = tuple(f"attribute of the garment {n}" for n in range(12))
    schema = AttributeSchema(names, (("a long value", "another value that is very long indeed"),) * 12)
    shop = FakeRetriever(40, schema)
    shop.names = [f"a_name_without_any_space_that_goes_on_and_on_for_ever_{row}.jpg" for row in range(40)]
    with visiting(browser, serve(shop, gallery="a gallery of a long name"), size=SMALLEST) as visit:
        changes = "".join(f"&change={name}:a long value&where={name}:a long value" for name in names[:2])
        visit.open(f"#item=3{changes}".replace(" ", "%20"))
        assert visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
        assert len(visit.results) > 0
        visit.picture("phone_long_names")


def test_the_story_works_on_a_phone(browser, address):
    with visiting(
        browser, address, size=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2
    ) as visit:
        visit.open()
        visit.find('#gallery-list a[data-item="3"]').tap()
        visit.settle()
        visit.chip("color").tap()
        box = visit.find("#values").bounding_box()
        assert round(box["x"]) == 0
        assert round(box["width"]) == PHONE["width"]
        assert round(box["y"] + box["height"]) == PHONE["height"]
        visit.find("#values .option:not([aria-current])").first.tap()
        visit.settle()
        assert len(visit.changes) == 1
        visit.find("#results a").first.tap()
        visit.settle()
        assert visit.changes == []


def test_nothing_moves_for_who_wants_less_motion(browser, address):
    with visiting(browser, address, still=True) as visit:
        visit.open("#item=3")
        visit.find("#words").fill("red")
        visit.page.keyboard.press("Enter")
        for _ in range(10):
            assert visit.page.evaluate("document.getAnimations().length") == 0
            visit.page.wait_for_timeout(20)


def test_dark_is_dark(browser, address):
    with visiting(browser, address, dark=True) as visit:
        visit.open("#item=3")
        color = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert color == "rgb(21, 21, 19)"
