"""What no client should send: each is refused with one sentence, and costs little."""

import io
import json
import random
import time

import numpy as np
import pytest
from PIL import Image, features

from gradrev_jax.serving.web.limits import Limits
from tests.serving.web.client import BOUNDARY, form
from tests.serving.web.fake import SCHEMA

FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


def change(**fields):
    return {"item": 3, "changes": [{"attribute": "color", "to": "red", **fields}]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value in line 1, column 1"),
        (b"{", "not JSON"),
        (b'{"item": 3} {}', "not JSON: Extra data"),
        (b"\xff\xfe{}", "not UTF-8: byte 0"),
        ('{"item": 3}'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf{"item": 3}', "not JSON"),
        (b'{"item": NaN}', "NaN is no number of JSON"),
        (b'{"item": 3, "look": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"item": 3, "look": 1e999}', "`look` is inf; give a number from 0 to 100"),
        (b'{"item": ' + b"9" * 60_000 + b"}", "has 60000 digits"),
        (b"[" * 60_000, "too many levels"),
        (b'{"a":' * 10_000, "too many levels"),
        (b'{"item": 3, "item": 4}', "the field 'item' is given twice"),
        (b'{"item": 3, "changes": [{"to": null, "to": null}]}', "the field 'to' is given twice"),
        (b'{"item": 3, "\\ud800": 1}', "is no field here"),
        ([], "the body is []; give a JSON object"),
        (None, "the body is null; give a JSON object"),
        ("item", "the body is 'item'; give a JSON object"),
        ({}, "give either `item`"),
        ({"item": 3, "photo": "a"}, "give either `item`"),
        ({"item": 3, "kk": 1}, "`kk` is no field here; did you mean k?"),
        ({"item": 3, "changed": []}, "did you mean changes?"),
        ({"item": True}, "`item` is true; give a row of the gallery, from 0 to 299"),
        ({"item": 3.5}, "`item` is 3.5"),
        (b'{"item": 1e999}', "`item` is inf"),
        ({"item": "3"}, "`item` is '3'"),
        ({"item": None}, "`item` is null"),
        ({"photo": 3}, "`photo` is 3; give a text"),
        ({"photo": "x" * 2000}, "`photo` has 2,000 characters"),
        ({"item": 3, "k": 0}, "`k` is 0; give a whole number from 1 to 200"),
        ({"item": 3, "k": 10**9}, "`k` is 1000000000; give a whole number from 1 to 200"),
        ({"item": 3, "k": 2.5}, "`k` is 2.5"),
        ({"item": 3, "k": None}, "`k` is null"),
        ({"item": 3, "counts": 1}, "`counts` is 1; give true or false"),
        ({"item": 3, "look": "much"}, "`look` is 'much'; give a number from 0 to 100"),
        ({"item": 3, "look": -0.1}, "`look` is -0.1"),
        ({"item": 3, "look": None}, "`look` is null; give a number"),
        ({"item": 3, "counts": None}, "`counts` is null"),
        ({"item": 3, "changes": None}, "`changes` is null; give a list"),
        ({"photo": None}, "`photo` is null; give a text"),
        ({"item": 3, "changes": {}}, "`changes` is {}; give a list"),
        ({"item": 3, "changes": [{}] * 1000}, "`changes` has 1,000 entries; give at most 50"),
        ({"item": 3, "changes": [3]}, "`changes[0]` is 3; give a JSON object"),
        ({"item": 3, "changes": [{}]}, "`changes[0].attribute` is missing"),
        ({"item": 3, "changes": [{"attribute": "color"}]}, "`changes[0].to` is missing"),
        (change(strenght=1), "`changes[0].strenght` is no field here; did you mean strength?"),
        (change(strength=10.5), "`changes[0].strength` is 10.5; give a number from -10 to 10"),
        (change(strength=True), "`changes[0].strength` is true"),
        (change(strength=10**17), "`changes[0].strength` is 100000000000000000"),
        (change(strength=None), "`changes[0].strength` is null"),
        (change(attribute="colour"), "no attribute 'colour'; did you mean color?"),
        (change(attribute="zzz"), "no attribute 'zzz'; there are category, color, sleeve, gender"),
        (change(attribute=["color"]), "`changes[0].attribute` is ['color']; give a text"),
        (
            change(unwanted=["blue"]),
            "`changes[0]` has both `to` and `unwanted`; give `unwanted` where `to` is null",
        ),
        (change(to=None, unwanted="blue"), "`changes[0].unwanted` is 'blue'; give a list"),
        (change(to=None, unwanted=["bleu"]), "`changes[0].unwanted[0]`: no color 'bleu'; did you mean blue?"),
        (change(to=None, unwanted=[["blue"]]), "`changes[0].unwanted[0]` is ['blue']; give a text"),
        (change(to=None, unwanted=["blue"] * 8), "`changes[0].unwanted` has 8 entries; give at most 7"),
        (change(to="rde"), "`changes[0].to`: no color 'rde'; did you mean red?"),
        (change(to=["red"]), "`changes[0].to` is ['red']; give a text"),
        (change(to="x" * 5000), "`changes[0].to` has 5,000 characters"),
        ({"item": 3, "where": []}, "`where` is []; give a JSON object"),
        ({"item": 3, "where": {"colr": "red"}}, "`where`: no attribute 'colr'; did you mean color?"),
        ({"item": 3, "where": {"color": "rde"}}, "`where.color`: no color 'rde'; did you mean red?"),
        ({"item": 3, "where": {"color": []}}, "`where.color` has 0 values; give 1 to 7"),
        ({"item": 3, "where": {"color": ["red"] * 8}}, "`where.color` has 8 values; give 1 to 7"),
        ({"item": 3, "where": {"color": None}}, "`where.color` is null; give a text"),
        ({"item": 3, "exclude": [300]}, "`exclude[0]` is 300; give a whole number from 0 to 299"),
        ({"item": 3, "exclude": [1, "2"]}, "`exclude[1]` is '2'"),
        ({"item": 3, "exclude": list(range(300)) * 7}, "`exclude` has 2,100 entries; give at most 2,000"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
def test_a_search_that_cannot_be_read_says_what_is_wrong(client, body, message):
    started = time.perf_counter()
    answer = client.post("/api/search", body)
    assert answer.status == 400
    assert message in answer.error
    assert len(answer.error) < 300
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"item": 300}, "there is no item 300; the gallery has items 0 to 299"),
        ({"item": -1}, "there is no item -1"),
        ({"photo": ""}, "no longer kept; send it again"),
        ({"photo": "unknown"}, "no longer kept; send it again"),
    ],
)
def test_what_is_not_there_is_404(client, body, message):
    answer = client.post("/api/search", body)
    assert answer.status == 404
    assert message in answer.error


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/nothing", 404, "nothing at this address"),
        ("/api", 404, "nothing at this address"),
        ("/api/items/", 404, "nothing at this address"),
        ("/api/items/3/4", 404, "nothing at this address"),
        ("/api/items/x", 404, "an item is named by its row"),
        ("/api/items/-1", 404, "an item is named by its row"),
        ("/api/items/٣", 404, "an item is named by its row"),
        ("/api/items/300", 404, "there is no item 300"),
        ("/api/items/" + "9" * 5000, 404, "an item is named by its row"),
        ("/api/items/3?x=1", 400, "`x` is no field here"),
        ("/images/300", 404, "there is no item 300"),
        ("/images/..%2f..%2fetc%2fpasswd", 404, "an item is named by its row"),
        ("/images/3?size=15", 400, "`size` is 15; give a whole number from 16 to 1,024"),
        ("/images/3?size=1025", 400, "`size` is 1025"),
        ("/images/3?size=1e2", 400, "`size` is '1e2'"),
        ("/images/3?size=64&size=65", 400, "the field 'size' is given twice"),
        ("/images/3?size=", 400, "`size` is ''"),
        ("/api/items?limit=0", 400, "`limit` is 0; give a whole number from 1 to 200"),
        ("/api/items?offset=-1", 400, "`offset` is '-1'"),
        ("/api/items?offset=" + "9" * 5000, 400, "`offset` is"),
        ("/api/items?nam=shirt", 400, "`nam` is no field here; did you mean name?"),
        ("/api/items?name=" + "x" * 201, 400, "`name` has 201 characters; give at most 200"),
        ("/api/attributes?q=1", 400, "`q` is no field here; there is none"),
        ("/?q=1", 200, None),
    ],
)
def test_an_address_that_is_wrong_says_so(client, path, status, message):
    answer = client.get(path)
    assert answer.status == status
    if message:
        assert message in answer.error


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in ("/", "/api/attributes", "/api/items", "/api/items/3", "/images/3")),
        *(("GET", path) for path in ("/api/search", "/api/words", "/api/photos")),
        *((method, "/api/search") for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW")),
    ],
)
def test_another_method_is_405_and_says_which_are_taken(client, method, path):
    answer = client.request(method, path)
    assert answer.status == 405
    assert answer.headers["allow"].split(", ")[0] in answer.error
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/api/search", "/api/words"])
@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]
)
def test_json_must_say_that_it_is(client, path, kind):
    answer = client.request("POST", path, b'{"item": 3}', {"content-type": kind})
    assert answer.status == 415
    assert "send JSON as application/json" in answer.error


def test_a_whole_number_may_be_written_with_a_point(client):
    answer = client.post("/api/search", b'{"item": 3.0, "k": 2e0, "exclude": [3.0]}')
    assert len(answer.json["items"]) == 2
    assert 3 not in [item["item"] for item in answer.json["items"]]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_say_it_in_other_words(client, kind):
    assert client.request("POST", "/api/search", b'{"item": 3}', {"content-type": kind}).status == 200


@pytest.mark.parametrize("length", [None, "99999999", "9" * 30, "70000"])
def test_a_body_that_is_too_long_is_refused_however_it_comes(client, length):
    chunks = [b" " * 10_000] * 7
    headers = {"content-type": "application/json", "content-length": length}
    answer = client.request("POST", "/api/search", headers=headers, chunks=chunks)
    assert answer.status == 413
    assert "at most 65,536 bytes" in answer.error


def test_a_body_that_says_that_it_is_too_long_is_not_waited_for(client):
    for path, headers in (("/api/search", {"content-type": "application/json"}), ("/api/photos", FORM)):
        headers = {**headers, "content-length": "99999999"}
        assert client.request("POST", path, headers=headers, chunks=[None]).status == 413


def test_a_body_that_comes_in_parts_is_read(client):
    headers = {"content-type": "application/json", "content-length": None}
    answer = client.request("POST", "/api/search", headers=headers, chunks=[b'{"it', b'em": 3', b"}"])
    assert answer.status == 200


def test_a_body_that_does_not_come_is_given_up(make_client):
    client = make_client(limits=Limits(body_seconds=0.05, photo_seconds=0.05))
    for path, headers in (("/api/search", {"content-type": "application/json"}), ("/api/photos", FORM)):
        started = time.perf_counter()
        answer = client.request("POST", path, headers=headers, chunks=[b"{", None])
        assert answer.status == 408
        assert time.perf_counter() - started < 3
        assert "after 0.05 seconds" in answer.error


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"text": 3}, "`text` is 3; give a text"),
        ({}, "`text` is missing"),
        ({"text": "x" * 501}, "`text` has 501 characters; give at most 500"),
        ({"text": "red", "language": "en"}, "`language` is no field here"),
    ],
)
def test_words_that_cannot_be_read_say_what_is_wrong(client, value, message):
    answer = client.post("/api/words", value)
    assert answer.status == 400
    assert message in answer.error


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


BOMB = encoded(Image.new("1", (6400, 6300)), "PNG")  # 40.3 megapixels in a few kilobytes
LARGER_BOMB = encoded(Image.new("1", (20_000, 10_000)), "PNG")  # Pillow itself refuses it


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "the photograph is empty"),
        (b"hello", 400, "the photograph is no image: it begins with"),
        (b"<svg></svg>", 400, "is an SVG drawing"),
        (b"%PDF-1.7", 400, "is a PDF"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            400,
            "the photograph is PostScript, a program, which is never run",
        ),
        (encoded(Image.new("RGB", (40, 30)), "JPEG")[:200], 400, ""),
        (encoded(Image.new("RGB", (40, 30)), "PPM"), 400, "the photograph is no image: it begins with"),
        (BOMB, 413, "has 6,400 x 6,300 pixels; send one of at most 40 megapixels"),
        (LARGER_BOMB, 413, "has more pixels than can be read; send one of at most 40 megapixels"),
        (bytes(10_000_001), 413, "at most 10,000,000 bytes"),
        (bytes(11_000_000), 413, "at most 10,016,384 bytes"),
    ],
    ids="empty text svg pdf eps truncated ppm bomb larger_bomb long longer".split(),
)
def test_what_is_no_photograph_says_what_it_is(client, content, status, message):
    started = time.perf_counter()
    answer = client.upload(content)
    assert answer.status == status
    assert message in answer.error
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 700)])
def test_unusual_photographs_are_taken(client, mode, size):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert client.upload(encoded(Image.new(mode, size), kind)).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "it has none"),
        (b"no form", "cannot be read"),
        (form(("image", b"a")), "it has fields 'image'"),
        (form(("photo", b"a"), ("photo", b"b")), "it has fields 'photo, photo'"),
        (form(("photo", b"a"), ("name", b"b")), "it has fields 'photo, name'"),
        (form(*[("photo", b"")] * 100), "more than 8 fields"),
        (form(("photo", b"a"))[:-20], "the form must have one field"),
        (b"--a-boundary\r\n" + b"X-A: b\r\n" * 100 + b"\r\n\r\n--a-boundary--", "cannot be read"),
        (b"--a-boundary\r\n\r\n\r\n--a-boundary--\r\n", "it has fields ''"),
        (b"--a-boundary\r\n" + b"\r\n" * 50_000, ""),
        (b"--a-boundary\r\n" + b"a" * 200_000, ""),
    ],
)
def test_a_form_with_anything_but_one_photograph_is_refused(client, body, message):
    answer = client.request("POST", "/api/photos", body, FORM)
    assert answer.status == 400
    assert message in answer.error


@pytest.mark.parametrize(
    "kind", [None, "image/jpeg", "multipart/form-data", f"multipart/form-data; boundary={'x' * 300}"]
)
def test_a_photograph_comes_in_a_form(client, kind):
    answer = client.request("POST", "/api/photos", b"", {"content-type": kind})
    assert answer.status == 415
    assert "in the field `photo`" in answer.error


def test_random_bodies_never_meet_a_fault(client):
    """A few hundred of what a fuzzer would send; every answer is one that the description has."""
    rng = random.Random(0)
    words = [
        "item",
        "photo",
        "changes",
        "where",
        "exclude",
        "look",
        "k",
        "counts",
        "attribute",
        "to",
        "strength",
    ]
    names = [*words, *SCHEMA.names, *SCHEMA.values[1], "", "\0", "é", "\ud800", "x" * 3000]
    numbers = [0, 1, -1, 3, 20, 299, 300, 1.5, 1e308, -0.0, 10**18, True, False, None]

    def value(depth):
        kind = rng.randrange(5 if depth else 3)
        if kind < 2:
            return rng.choice(numbers)
        if kind == 2:
            return rng.choice(names)
        if kind == 3:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        return {rng.choice(names): value(depth - 1) for _ in range(rng.randrange(4))}

    statuses = set()
    for _ in range(400):
        body = {"item": rng.choice([3, 3, value(1)])} | {
            name: value(3) for name in rng.sample(words[1:8], rng.randrange(4))
        }
        content = bytearray(json.dumps(body).encode())
        if rng.random() < 0.3:
            content[rng.randrange(len(content))] = rng.randrange(256)
        statuses.add(client.post(rng.choice(["/api/search", "/api/words"]), bytes(content)).status)
        row = rng.choice(["3", "%00", "x", "9" * 99])
        client.get(f"/{rng.choice(['images', 'api/items'])}/{row}?{rng.choice(words)}=1")
    assert statuses >= {200, 400}
    assert statuses <= {200, 400, 404}


def test_random_files_never_meet_a_fault(client):
    rng = np.random.default_rng(0)
    good = encoded(Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8)), "JPEG")
    for _ in range(100):
        content = bytearray(good[: rng.integers(1, len(good))] if rng.random() < 0.5 else good)
        for _ in range(rng.integers(0, 20)):
            content[rng.integers(len(content))] = rng.integers(256)
        assert client.upload(bytes(content)).status in (200, 400, 413)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_photographs_of_every_format_are_taken(client, kind):
    """Found by use: no AVIF was, although Pillow reads it."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    options = {"save_all": True, "append_images": [Image.new("RGB", (40, 30))]} if kind == "MPO" else {}
    assert client.upload(encoded(Image.new("RGB", (40, 30), "red"), kind, **options)).status == 200
