"""The server over a trained run, without a stand-in."""

import contextlib
import http.client
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import Retriever
from gradrev_jax.serving.language.reader import Words

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def real(shop_run):
    return Retriever.open(shop_run, progress=False)


@pytest.fixture
def client(real, make_client):
    return make_client(real, words=Words(real.schema))


def test_a_search_gives_what_the_retriever_finds(real, client):
    attributes = client.get("/api/attributes").json
    assert (attributes["items"], attributes["look"]) == (real.num_items, 0.5)
    name, value = real.schema.names[0], real.schema.values[0][1]
    asked = {"item": 3, "changes": [{"attribute": name, "to": value, "strength": 0.5}], "look": 0.2}
    answer = client.post("/api/search", {**asked, "k": 10, "counts": True}).json
    edited = real.item(3).change(strength=0.5, **{name: value})
    found = edited.search(10, look=0.2)
    assert answer["counts"] == edited.counts()
    for shown, result in zip(answer["items"], found, strict=True):
        assert (shown["item"], shown["name"]) == (result.row, result.name)
        assert shown["distance"] == pytest.approx(result.distance, rel=1e-5)
        assert shown["labels"] == result.labels
        assert (shown["matches"], shown["differs"]) == (result.matches, list(result.differs))
        for attribute, (likeliest, probability) in result.predicted.items():
            assert shown["predicted"][attribute]["value"] == likeliest
            assert shown["predicted"][attribute]["probability"] == pytest.approx(probability, abs=1e-4)


def test_a_picture_can_be_sent_back_as_a_photograph(real, client):
    picture = client.get("/images/2?size=128").body
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (128, 128)
    sent = client.upload(picture).json
    assert list(sent["predicted"]) == list(real.schema.names)
    found = client.post("/api/search", {"photo": sent["photo"], "k": 3, "counts": True}).json
    assert len(found["items"]) == 3
    direct = real.photo(picture).search(3)
    assert [each["item"] for each in found["items"]] == direct.rows.tolist()


def test_what_it_cannot_read_is_refused_by_the_decoder_too(client):
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file, "PNG")
    assert client.upload(file.getvalue()[:60]).status == 400


def test_words_become_changes_of_this_catalogue(real, client):
    name, value = real.schema.names[0], real.schema.values[0][0]
    answer = client.post("/api/words", {"text": f"a bit more {value} and frobnicated"}).json
    assert [(each["attribute"], each["to"]) for each in answer["changes"]] == [(name, value)]
    assert answer["unknown"]
    for text in ("", "\0", "\ud800", "💥" * 100, "not " * 100):
        assert client.post("/api/words", {"text": text}).status == 200


@pytest.mark.long
def test_the_command_serves_a_run_until_it_is_interrupted(real, shop_run):
    command = [sys.executable, "serve.py", f"--workdir={shop_run}", "--port=0"]
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        line = process.stdout.readline()
        assert f"{real.num_items} garments at http://127.0.0.1:" in line, process.stderr.read()
        assert "--parts=test" in line
        port = int(line.split("127.0.0.1:")[1].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            for path in ("/", "/api/attributes", "/images/0?size=64"):
                connection.request("GET", path)
                answer = connection.getresponse()
                assert answer.status == 200
                content = answer.read()
                if path == "/api/attributes":
                    assert json.loads(content)["gallery"] == shop_run.name
            print(f"first page after {time.perf_counter() - started:.1f} s")
            connection.request("GET", "/", headers={"Host": "evil.example"})
            assert connection.getresponse().status == 421
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
