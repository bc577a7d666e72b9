"""Fuzz targets of what clients send: the page's API, its uploads, and requests in words."""

import functools
import io
import json
import pathlib

import numpy as np
from PIL import Image

from gradrev_jax.serving.language.words import parse_request
from gradrev_jax.serving.photos import read_photo
from gradrev_jax.serving.web.app import create_app
from gradrev_jax.serving.web.refusals import Refused
from tests.faults.fuzzing import Target
from tests.serving.web.client import BOUNDARY, Answer, Client, form
from tests.serving.web.described import Described
from tests.serving.web.fake import SCHEMA, FakeRetriever

SEARCHES = (
    {"item": 3},
    {
        "item": 5,
        "changes": [
            {"attribute": "color", "to": "red", "strength": 1.5},
            {"attribute": "sleeve", "to": None},
        ],
        "where": {"category": ["coat", "dress"], "gender": "women"},
        "exclude": [1, 2, 3],
        "look": 0.5,
        "k": 7,
        "counts": True,
    },
    {"photo": "abcdefghijkl", "changes": [], "k": 200},
)
ADDRESSES = (
    *("/", "/static/clock.js", "/openapi.json", "/api/attributes", "/api/items?offset=10&limit=7&name=garm"),
    *("/api/items/3", "/images/4?size=64&v=abc", "/api/search", "/api/words"),
)
TEXTS = (
    "but red, with long sleeves",
    "a bit darker; not blue, without sleeves or with short ones, for women",
    "Sähr gréen T-shirts and much less grey, coat or dress?",
)


class _Shop(FakeRetriever):
    """A retriever of random features, which decodes photographs as a real one does."""

    def photo(self, photo):
        read_photo(photo, 32)
        return super().item(0)


@functools.cache
def client() -> Client:
    """Returns a client whose every answer must be one that the API's description has."""
    app = create_app(_Shop(20), words=lambda text: parse_request(text, SCHEMA), hosts=("localhost",))
    return Client(app, check=Described().check)


def check_answer(answer: Answer) -> None:
    """Raises a refusal as the error that it is; a failure of the server is none."""
    assert answer.status < 500, (answer.status, answer.body)
    if answer.status >= 400:
        raise Refused(answer.error, answer.status)


def make_bodies(folder: pathlib.Path) -> None:
    """Writes bodies of searches, and one in words."""
    for number, search in enumerate(SEARCHES[:2]):
        (folder / f"search{number}.json").write_text(json.dumps(search))
    (folder / "words.json").write_text(json.dumps({"text": TEXTS[1]}))


def read_bodies(folder: pathlib.Path) -> None:
    """Posts them."""
    for path in sorted(folder.iterdir()):
        address = "/api/words" if path.name.startswith("words") else "/api/search"
        check_answer(client().post(address, path.read_bytes()))


def make_requests(folder: pathlib.Path) -> None:
    """Writes whole requests, of an address, a method and headers, for each address."""
    for number, address in enumerate(ADDRESSES):
        headers = {"content-type": "application/json", "if-none-match": 'W/"abc"'}
        headers |= {"host": "localhost:8000", "origin": "http://localhost:8000"}
        method = "POST" if number > 6 else "GET"
        body = {"/api/search": json.dumps(SEARCHES[0]), "/api/words": json.dumps({"text": "red"})}.get(
            address, ""
        )
        request = {"method": method, "address": address, "headers": headers, "body": body}
        (folder / f"{number}.json").write_text(json.dumps(request))


def read_requests(folder: pathlib.Path) -> None:
    """Sends those that are requests at all, as a server passes them on."""
    refused = None
    for path in sorted(folder.iterdir()):
        try:
            request = json.loads(path.read_bytes())
            address, headers = str(request["address"]), dict(request["headers"])
            named = {str(name).lower(): str(value) for name, value in headers.items()}
            _ = "".join(named).encode("ascii"), "".join(named.values()).encode("latin-1")
            address.encode()
            body = str(request["body"]).encode()
            method = request["method"] if request["method"] in ("GET", "POST", "PUT", "HEAD") else "DELETE"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            refused = Refused(f"no request: {error}", 400)
            continue
        try:
            answer = client().request(method, address, body, named)
            if method != "HEAD":
                check_answer(answer)
        except Refused as error:
            refused = error
    if refused:
        raise refused


def make_uploads(folder: pathlib.Path) -> None:
    """Writes forms with photographs of several formats."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, kind)
        (folder / f"{kind}.form").write_bytes(form(("photo", written.getvalue())))


def read_uploads(folder: pathlib.Path) -> None:
    """Posts them."""
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    for path in sorted(folder.iterdir()):
        check_answer(client().request("POST", "/api/photos", path.read_bytes(), {"content-type": kind}))


def make_texts(folder: pathlib.Path) -> None:
    """Writes requests in words."""
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")


def read_texts(folder: pathlib.Path) -> None:
    """Reads them; what they come to names attributes and values that there are."""
    for path in sorted(folder.iterdir()):
        text = path.read_bytes().decode("utf-8", "surrogatepass" if path.name == "0.txt" else "replace")
        found = parse_request(text, SCHEMA)
        changes = [*found.changes, *(option for question in found.questions for option in question.options)]
        named = [(each.attribute, each.to) for each in changes]
        named += [(each.attribute, value) for each in changes for value in each.unwanted]
        for attribute, value in named:
            values = SCHEMA.values[SCHEMA.names.index(attribute)]
            assert value is None or value in values


TARGETS = {
    target.name: target
    for target in (
        Target("page bodies", make_bodies, read_bodies, named=False),
        Target("page requests", make_requests, read_requests, named=False),
        Target("page uploads", make_uploads, read_uploads, named=False),
        Target(
            "words", make_texts, read_texts, refusals=(Refused, UnicodeDecodeError, ValueError), named=False
        ),
    )
}
