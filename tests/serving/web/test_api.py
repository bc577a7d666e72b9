import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import CheckpointError, EngineError
from gradrev_jax.serving.changes import Change
from gradrev_jax.serving.language.reader import Words
from gradrev_jax.serving.space import LARGEST_LOOK
from gradrev_jax.serving.web.app import create_app
from gradrev_jax.serving.web.limits import Limits
from tests.serving.web.fake import SCHEMA, FakeItem, FakeRetriever


def red(strength=1.0):
    return {"attribute": "color", "to": "red", "strength": strength, "unwanted": []}


def not_black():
    return {"attribute": "color", "to": None, "strength": 1.0, "unwanted": ["black"]}


def jpeg(color="white", size=(40, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "JPEG")
    return file.getvalue()


def test_every_address_of_the_application_is_described_and_there_is_no_other(shop, described):
    routes = create_app(shop)._app.routes
    served = {(route.path, method.lower()) for route in routes for method in route.methods - {"HEAD"}}
    told = {(path, method) for path, methods in described.document["paths"].items() for method in methods}
    page = {(path, "get") for path in ("/", "/static/{name}", "/openapi.json")}
    assert served == told | page


def test_the_description_states_the_limits(described):
    limits, schemas = Limits(), described.document["components"]["schemas"]
    search = schemas["Search"]["properties"]
    assert search["k"]["maximum"] == limits.k
    assert search["look"]["maximum"] == LARGEST_LOOK
    assert search["changes"]["maxItems"] == limits.changes
    assert search["exclude"]["maxItems"] == limits.exclude
    text = json.dumps(described.document)
    assert f"{limits.photo_bytes:,} bytes" in text
    assert f"{limits.photo_pixels // 10**6} megapixels" in text
    assert f"The {limits.photos} photographs" in text


def test_the_description_is_served(client, described):
    assert client.get("/openapi.json").json == described.document


def test_attributes_come_with_the_number_of_images_of_each_value(client, shop):
    answer = client.get("/api/attributes").json
    assert (answer["items"], answer["has_look"], answer["look"]) == (shop.num_items, True, 0.5)
    assert [each["name"] for each in answer["attributes"]] == list(SCHEMA.names)
    for n, attribute in enumerate(answer["attributes"]):
        for v, value in enumerate(attribute["values"]):
            assert value == {"name": SCHEMA.values[n][v], "count": sum(shop.labels[:, n] == v)}


def test_a_list_has_the_items_from_an_offset_on(client, shop):
    answer = client.get("/api/items?offset=290&limit=60").json
    assert (answer["total"], answer["offset"]) == (300, 290)
    assert [item["item"] for item in answer["items"]] == list(range(290, 300))
    assert client.get("/api/items").json["items"][59]["name"] == shop.names[59]
    assert client.get("/api/items?offset=1000").json == {"total": 300, "offset": 1000, "items": []}


def test_a_list_is_of_the_names_with_all_words(client):
    answer = client.get("/api/items?name=29%20GARMENTS&limit=2").json
    assert answer["total"] == 13  # 29, 129, 229 and 290 to 299
    assert [item["item"] for item in answer["items"]] == [29, 129]
    assert client.get("/api/items?name=%3Cb%3E").json["total"] == 0


def test_an_item_has_its_labels_and_what_is_predicted(client, shop):
    row = int(np.argmax((shop.labels == -1).any(axis=1) & (shop.labels >= 0).any(axis=1)))
    answer = client.get(f"/api/items/{row}").json
    for n, (name, values) in enumerate(zip(SCHEMA.names, SCHEMA.values, strict=True)):
        label = shop.labels[row, n]
        assert answer["labels"][name] == (None if label == -1 else values[label])
        predicted = answer["predicted"][name]
        assert predicted["value"] == values[shop.predicted[row, n]]
        probability = shop.item(row).probabilities[name][predicted["value"]]
        assert predicted["probability"] == pytest.approx(probability, abs=1e-4)


def test_a_search_gives_what_the_retriever_finds(client, shop):
    found = shop.item(12).changes([Change("color", "red", 1.5), Change("sleeve", None)]).search(5)
    changes = [red(1.5), {"attribute": "sleeve", "to": None}]
    answer = client.post("/api/search", {"item": 12, "changes": changes, "k": 5}).json
    assert [item["item"] for item in answer["items"]] == found.rows.tolist()
    assert [item["name"] for item in answer["items"]] == found.names
    np.testing.assert_allclose([item["distance"] for item in answer["items"]], found.distances, rtol=1e-5)
    for item, differs in zip(answer["items"], found.differs, strict=True):
        assert item["differs"] == [name for name, other in zip(SCHEMA.names, differs, strict=True) if other]
        assert item["matches"] == (not item["differs"])
        shown = {name: item[name] for name in ("item", "name", "labels", "predicted")}
        assert shown == client.get(f"/api/items/{item['item']}").json


def test_a_search_without_changes_finds_the_item_itself_first(client):
    answer = client.post("/api/search", {"item": 7}).json
    assert len(answer["items"]) == 20
    assert answer["items"][0]["item"] == 7
    assert answer["items"][0]["distance"] == 0
    assert answer["items"][0]["matches"]


def test_where_filters_by_one_value_or_several_and_exclude_leaves_items_out(client, shop):
    where = {"color": "red", "sleeve": ["long", "short"]}
    answer = client.post("/api/search", {"item": 7, "where": where, "k": 200}).json
    allowed = (shop.labels[:, 1] == 4) & np.isin(shop.labels[:, 2], [0, 1])
    rows = [item["item"] for item in answer["items"]]
    assert sorted(rows) == np.flatnonzero(allowed).tolist()
    rest = client.post("/api/search", {"item": 7, "where": where, "k": 200, "exclude": rows[:2]}).json
    assert [item["item"] for item in rest["items"]] == rows[2:]
    none = client.post("/api/search", {"item": 7, "where": where, "exclude": rows}).json
    assert none["items"] == []


def test_counts_are_those_of_the_retriever(client, shop):
    asked = {"item": 7, "changes": [red()], "where": {"gender": "men"}, "counts": True}
    answer = client.post("/api/search", asked).json
    assert answer["counts"] == shop.item(7).change(color="red").counts({"gender": ["men"]})
    assert sum(sum(each.values()) for each in answer["counts"].values()) > 0
    assert "counts" not in client.post("/api/search", {"item": 7}).json


def test_the_look_moves_the_results(client, make_client):
    plain, looks = (
        client.post("/api/search", {"item": 7, "changes": [red()], **look}).json["items"]
        for look in ({"look": 0}, {"look": 100})
    )
    assert [item["item"] for item in plain] != [item["item"] for item in looks]
    without = make_client(FakeRetriever(has_look=False))
    assert without.get("/api/attributes").json["look"] is None
    assert "no look" in without.post("/api/search", {"item": 7, "look": 0.5}).error


def test_a_photograph_is_described_and_searched_with(client):
    answer = client.upload(jpeg("red")).json
    assert set(answer["labels"].values()) == {None}
    assert list(answer["predicted"]) == list(SCHEMA.names)
    found = client.post("/api/search", {"photo": answer["photo"], "changes": [red()], "k": 3}).json
    assert len(found["items"]) == 3
    assert client.upload(jpeg("red")).json["photo"] != answer["photo"]


def test_words_become_changes_questions_and_what_is_unknown(client):
    answer = client.post("/api/words", {"text": "but red, dark, with frobs"}).json
    assert answer["changes"] == [red()]
    assert answer["questions"][0]["words"] == "dark"
    blue = {"attribute": "color", "to": "blue", "strength": 1.0, "unwanted": []}
    assert blue in answer["questions"][0]["options"]
    assert answer["unknown"] == ["frobs"]


def test_unwanted_values_in_words_are_left_out_of_a_search(client, shop):
    changes = client.post("/api/words", {"text": "not black"}).json["changes"]
    assert changes == [not_black()]
    answer = client.post("/api/search", {"item": 7, "changes": changes, "k": 200, "counts": True}).json
    found = shop.item(7).changes([Change("color", None, unwanted=("black",))])
    assert [item["item"] for item in answer["items"]] == found.search(200).rows.tolist()
    assert answer["counts"] == found.counts()
    assert {item["labels"]["color"] for item in answer["items"]} == {None, *SCHEMA.values[1][1:]}


def test_words_of_several_values_are_asked_back_and_denied_ones_are_unwanted(make_client):
    client = make_client(words=Words(SCHEMA))
    assert client.post("/api/words", {"text": "anything but black"}).json["changes"] == [not_black()]
    answer = client.post("/api/words", {"text": "a red coat with white sleeves, not for men"}).json
    assert answer["changes"] == [
        {"attribute": "gender", "to": None, "strength": 1.0, "unwanted": ["men"]},
        {"attribute": "category", "to": "coat", "strength": 1.0, "unwanted": []},
    ]
    options = [{"attribute": "color", "to": to, "strength": 1.0, "unwanted": []} for to in ("red", "white")]
    assert answer["questions"][0] == {"words": "red … white", "options": options}


def test_a_denial_that_may_be_of_several_attributes_is_asked_back(make_client):
    schema = AttributeSchema(("length", "sleeve"), (("long", "short"), ("long", "short")))
    answer = make_client(words=Words(schema)).post("/api/words", {"text": "too long"}).json
    options = [
        {"attribute": name, "to": None, "strength": 0.5, "unwanted": ["long"]} for name in schema.names
    ]
    assert answer == {"changes": [], "questions": [{"words": "long", "options": options}], "unknown": []}


def test_what_is_removed_is_no_match(client, shop):
    """Found by use: removed from a blue garment, "blue" was a match again."""
    row = int(np.flatnonzero((shop.labels[:, 1] == 1) & (shop.labels[:, 0] >= 0))[0])
    removal = {"attribute": "color", "to": None}
    items = client.post("/api/search", {"item": row, "changes": [removal], "k": 200}).json["items"]
    assert {item["labels"]["color"] for item in items} == {None, *SCHEMA.values[1]}
    for item in items:
        assert ("color" in item["differs"]) == (item["labels"]["color"] == "blue")


def test_words_and_the_name_of_the_gallery_are_there_unless_others_are_given(make_client):
    client = make_client(words=None)
    (change,) = client.post("/api/words", {"text": "but red"}).json["changes"]
    assert (change["attribute"], change["to"]) == ("color", "red")
    assert client.get("/api/attributes").json["gallery"] == "random"


def test_a_picture_is_a_jpeg_of_the_size_asked_for(client):
    for size, query in ((256, ""), (64, "?size=64"), (1024, "?size=1024")):
        answer = client.get(f"/images/3{query}")
        with Image.open(io.BytesIO(answer.body)) as image:
            assert image.format == "JPEG"
            assert max(image.size) == size


def test_a_picture_is_encoded_once_and_asked_for_again_by_its_tag(make_client, monkeypatch):
    shop = FakeRetriever(10)
    made, picture = [], shop.picture
    monkeypatch.setattr(shop, "picture", lambda row, size: made.append((row, size)) or picture(row, size))
    client = make_client(shop)
    first = client.get("/images/3?size=64")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/images/3?size=64", if_none_match=f'"other", W/{first.headers["etag"]}')
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get("/images/3?size=64", if_none_match='"other"').body == first.body
    assert made == [(3, 64)]


def test_a_browser_keeps_pictures_of_this_servers_version_alone(client, make_client):
    version = client.get("/api/attributes").json["version"]
    assert "immutable" in client.get(f"/images/3?v={version}").headers["cache-control"]
    assert client.get("/images/3?v=other").headers["cache-control"] == "no-cache"
    assert make_client().get("/api/attributes").json["version"] != version


def test_the_memory_of_pictures_is_bounded(make_client, monkeypatch):
    shop = FakeRetriever(10)
    made = []
    monkeypatch.setattr(shop, "picture", lambda row, size: made.append(row) or bytes(1000))
    client = make_client(shop, limits=Limits(picture_bytes=2500))
    for row in (0, 1, 0, 2, 0, 1):
        client.get(f"/images/{row}")
    assert made == [0, 1, 2, 1]


def test_a_picture_that_cannot_be_read_is_missing_and_its_path_is_not_told(make_client, monkeypatch, caplog):
    shop = FakeRetriever(10)

    def fail(row, size):
        raise OSError("/secret/path: no such file")

    monkeypatch.setattr(shop, "picture", fail)
    answer = make_client(shop).get("/images/3")
    assert answer.status == 404
    assert "secret" not in answer.error
    assert "/secret/path" in caplog.text


def test_the_page_and_its_files_are_a_fixed_list(make_client, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "main.js").write_text("1")
    (tmp_path / "secret.key").write_text("2")
    client = make_client(page=tmp_path)
    (tmp_path / "later.js").write_text("3")
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    script = client.get("/static/main.js")
    assert (script.body, script.headers["content-type"]) == (b"1", "text/javascript; charset=utf-8")
    assert client.get("/static/main.js", if_none_match=script.headers["etag"]).status == 304
    for name in ("secret.key", "later.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "", "main.js/"):
        assert client.get(f"/static/{name}").status == 404


def test_the_page_asks_no_other_host_and_fits_its_policy(client):
    page = client.get("/").body.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)


def test_head_is_the_answer_without_what_it_holds(client):
    assert client.request("HEAD", "/api/attributes").status == 200


def test_what_the_server_lacks_is_a_503_with_the_reason(make_client, monkeypatch):
    shop = FakeRetriever(10)

    def fail(*arguments, **options):
        raise CheckpointError("the engine at localhost:19530 does not answer")

    monkeypatch.setattr(shop, "item", fail)
    answer = make_client(shop).post("/api/search", {"item": 3})
    assert answer.status == 503
    assert "does not answer" in answer.error
    assert int(answer.headers["retry-after"]) > 0


def test_an_item_that_is_another_one_now_is_not_taken_for_it(make_client):
    client = make_client(FakeRetriever(10))
    name = client.get("/api/items/3").json["name"]
    assert client.post("/api/search", {"item": 3, "name": name}).status == 200
    answer = client.post("/api/search", {"item": 4, "name": name})
    assert answer.status == 409
    assert answer.error == "the gallery has changed: item 4 is 'garments/00004.jpg' now; reload it"


def test_an_engine_that_fails_is_a_503_that_does_not_tell_where_it_is(make_client, monkeypatch, caplog):
    shop, reason = FakeRetriever(10), "http://10.0.0.7:19530: the engine failed at search"

    def fail(*arguments, **options):
        raise EngineError(reason)

    monkeypatch.setattr(shop, "item", fail)
    answer = make_client(shop).post("/api/search", {"item": 3})
    assert (answer.status, answer.error) == (503, "the search engine does not answer; try again")
    assert int(answer.headers["retry-after"]) > 0
    assert reason in caplog.text


def test_a_fault_of_the_server_is_told_without_its_trace(make_client, monkeypatch):
    def fail(self, *arguments, **options):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(FakeItem, "search", fail)
    client = make_client()
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b'{"item": 3}', "more_body": False}

    import asyncio

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/search", "query_string": b"", "headers": headers}
    with pytest.raises(ZeroDivisionError):  # for the server's log
        asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"]) == {"error": "the server failed at this; its log says why"}
