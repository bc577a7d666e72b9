"""The page over a tiny run that was trained."""

import functools

import pytest
from playwright.sync_api import expect

from gradrev_jax import Retriever
from gradrev_jax.serving.language.words import parse_request
from tests.serving.page.browser import visiting

pytestmark = pytest.mark.page


def test_a_trained_run_is_searched_by_words_chips_sliders_and_a_photograph(browser, serve, shop_run):
    shop = Retriever.open(shop_run, progress=False)
    shop.warm()
    address = serve(shop, functools.partial(parse_request, schema=shop.schema), "garments")
    red = shop.schema.values[shop.schema.names.index("color")].index("red")
    row = next(
        row for row, label in enumerate(shop.labels[:, shop.schema.names.index("color")]) if label != red
    )
    with visiting(browser, address) as visit:
        visit.open()
        expect(visit.find("#gallery-list li")).to_have_count(shop.num_items)
        visit.pick(row)
        visit.say("but red, in fluffy")
        assert visit.changes == ["red"]
        expect(visit.find("#replies")).to_contain_text("fluffy")
        found = shop.item(row).change(color="red").search(k=24, exclude=[row])
        assert visit.results == found.rows.tolist()
        exact = [row for row, matches in zip(found.rows.tolist(), found.matches, strict=True) if matches]
        marked = [int(card.get_attribute("data-item")) for card in visit.find("#results .exact a").all()]
        assert marked == exact
        visit.find("#look").fill("2")
        visit.settle()
        found = shop.item(row).change(color="red").search(k=24, exclude=[row], look=2.0)
        assert visit.results == found.rows.tolist()
        photo = {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": shop.picture(row, 96)}
        visit.find("#photo").set_input_files(photo)
        expect(visit.find("#garment-name")).to_have_text("mine", timeout=60_000)
        visit.settle()
        found = shop.photo(photo["buffer"]).search(k=24, look=2.0)
        assert visit.results == found.rows.tolist()
    shop.close()
