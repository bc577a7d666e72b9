"""The parts under the API: caches, workers, names, photographs."""

import asyncio
import io
import json
import threading
import time

import pytest
from PIL import Image

from gradrev_jax.search.recent import Recent
from gradrev_jax.serving.web.answers import Answers, to_json
from gradrev_jax.serving.web.fields import Query, parse_json
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.names import Names
from gradrev_jax.serving.web.photos import Photos, check_photo
from gradrev_jax.serving.web.refusals import Refused, quote
from gradrev_jax.serving.web.workers import Workers
from tests.serving.web.client import BOUNDARY, Client, form
from tests.serving.web.fake import FakeRetriever


def test_a_cache_lets_go_of_what_was_not_used_for_longest():
    kept = Recent(2)
    for key in "ab":
        kept.put(key, key)
    assert kept.get("a") == "a"
    kept.put("c", "c")
    assert [kept.get(key) for key in "abc"] == ["a", None, "c"]


def test_a_cache_is_bounded_by_sizes_and_counts_what_it_replaces_once():
    kept = Recent(10, len)
    for value in ("aaa", "bbbb", "a" * 6):
        kept.put(value[0], value)
    assert len(kept) == 2
    kept.put("c", "c" * 5)
    assert kept.get("b") is None
    kept.put("d", "d" * 11)  # more than all there is
    assert len(kept) == 0
    kept.put("e", "e" * 10)
    assert kept.get("e")


def test_a_cache_may_be_used_by_several_threads():
    kept, wrong = Recent(5), []

    def use(seed):
        for turn in range(2000):
            key = (turn * seed) % 9
            if kept.get_or_make(key, str) != str(key):
                wrong.append(key)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in (1, 2, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(kept) == 5


def test_workers_refuse_what_does_not_fit_their_queue():
    async def crowd():
        workers, go = Workers("searches", 1, 2), threading.Event()
        works = [asyncio.ensure_future(workers.run(go.wait)) for _ in range(5)]
        await asyncio.sleep(0.05)
        go.set()
        answers = await asyncio.gather(*works, return_exceptions=True)
        assert await workers.run(lambda: 3) == 3  # there is room again
        workers.close()
        return answers

    answers = asyncio.run(crowd())
    assert answers[:3] == [True] * 3
    assert [error.status for error in answers[3:]] == [503] * 2
    assert "too many searches at once; try again" in str(answers[3])
    assert answers[3].headers == {"retry-after": "1"}


def test_workers_drop_what_waits_for_a_client_who_has_gone():
    done = []

    async def vanish():
        workers, go = Workers("searches", 1, 9), threading.Event()

        async def gone():
            return {"type": "http.disconnect"}

        first = asyncio.ensure_future(workers.run(go.wait))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="client has gone"):
            await workers.run(lambda: done.append("dropped"), gone)
        go.set()
        await first
        await workers.run(lambda: done.append("next"))
        workers.close()

    asyncio.run(vanish())
    assert done == ["next"]


def test_workers_pass_errors_on_and_have_room_again():
    async def fail():
        workers = Workers("searches", 1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)
        workers.close()
        with pytest.raises(Refused, match="the server is ending"):
            await workers.run(lambda: 1)

    asyncio.run(fail())


def test_photographs_that_were_not_used_for_longest_go():
    shop = FakeRetriever(10)
    photos, file = Photos(shop, Limits(photos=2)), io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    names = [photos.add(file.getvalue())[0] for _ in range(2)]
    photos.get(names[0])
    names.append(photos.add(file.getvalue())[0])
    with pytest.raises(Refused, match="no longer kept") as refused:
        photos.get(names[1])
    assert refused.value.status == 404
    assert photos.get(names[0]) is not photos.get(names[2])
    assert len(set(names)) == 3
    assert all(len(name) >= 16 for name in names)


def test_a_photograph_is_never_written(tmp_path, monkeypatch, make_client):
    """Forms of other libraries are spooled to a file once they have a megabyte."""
    import tempfile

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, lambda *_, **__: pytest.fail("a file"))
    file = io.BytesIO()
    Image.effect_noise((1500, 1500), 90).save(file, "PNG")
    assert len(file.getvalue()) > 2_000_000
    assert make_client().upload(file.getvalue()).status == 200


def test_too_many_uploads_at_once_are_refused_before_they_are_read(make_client):
    client = make_client(limits=Limits(uploads=2, photo_seconds=0.2))
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}

    async def crowd():
        slow = [
            asyncio.ensure_future(client.call("POST", "/api/photos", headers=headers, chunks=[b"-", None]))
            for _ in range(2)
        ]
        await asyncio.sleep(0.02)
        refused = await client.call("POST", "/api/photos", headers=headers, chunks=[None])
        await asyncio.gather(*slow)
        file = io.BytesIO()
        Image.new("RGB", (4, 4)).save(file, "PNG")
        return refused, await client.call("POST", "/api/photos", form(("photo", file.getvalue())), headers)

    refused, later = asyncio.run(crowd())
    assert refused.status == 503
    assert "too many photographs at once" in refused.error
    assert later.status == 200


def test_a_photograph_with_damaged_metadata_counts_by_its_pixels():
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    damaged = bytearray(file.getvalue())
    damaged[33:33] = b"\0\0\0\4zTXt1234" + b"\0\0\0\0"  # a chunk whose checksum is wrong
    check_photo(bytes(damaged), 600)
    with pytest.raises(Refused, match="30 x 20 pixels"):
        check_photo(bytes(damaged), 599)


def test_searches_go_on_while_a_slow_one_runs(make_client):
    client = make_client(FakeRetriever(10, delay=0.1))

    async def both():
        body = json.dumps({"item": 3}).encode()
        slow = asyncio.ensure_future(
            client.call("POST", "/api/search", body, {"content-type": "application/json"})
        )
        await asyncio.sleep(0.02)
        started = time.perf_counter()
        assert (await client.call("GET", "/api/attributes")).status == 200
        elapsed = time.perf_counter() - started
        assert (await slow).status == 200
        return elapsed

    assert asyncio.run(both()) < 0.08


def test_a_crowd_of_searches_is_told_so(make_client):
    client = make_client(FakeRetriever(10, delay=0.05), limits=Limits(threads=1, waiting=2))

    async def crowd():
        body, headers = json.dumps({"item": 3}).encode(), {"content-type": "application/json"}
        return await asyncio.gather(*(client.call("POST", "/api/search", body, headers) for _ in range(10)))

    answers = asyncio.run(crowd())
    assert [answer.status for answer in answers].count(200) == 3
    assert all("overloaded: too many searches" in answer.error for answer in answers if answer.status != 200)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"quoted"', "weiß", "\ud800", "\u2028", "\0"])
def test_names_and_labels_are_data_whatever_they_hold(text):
    from gradrev_jax import AttributeSchema

    schema = AttributeSchema((text, "b"), ((text, "x"), ("y", "z")))
    shop = FakeRetriever(5, schema)
    shop.names = [text] * 5
    answers = Answers(shop, Limits())
    for body in (answers.item(3), answers.items([1], 5, 1), answers.attributes("gallery", "v")):
        assert body.isascii()
        assert text in json.dumps(json.loads(body), ensure_ascii=False)[0:] or text in ('"quoted"', "\0")
    assert json.loads(answers.item(3))["name"] == text
    found = json.loads(answers.found(shop.item(3).search(2), None))
    assert found["items"][0]["name"] == text


def test_json_has_no_numbers_that_json_lacks():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"look": float("nan")})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "null"), (True, "true"), (3, "3"), ("a\nb", "'a\\nb'"), ("x" * 10**6, None), ([1] * 10**5, None)],
)
def test_messages_repeat_little_of_what_clients_send(value, shown):
    assert len(quote(value)) < 90
    assert shown is None or quote(value) == shown


def test_names_are_found_by_all_their_words():
    names = Names(["Straße/a.jpg", "strasse/b.jpg", "c.jpg"])
    assert list(names.find("STRASSE")) == [0, 1]
    assert list(names.find("jpg b")) == [1]
    assert list(names.find("")) == [0, 1, 2]
    assert list(names.find("[")) == []


def test_answers_to_many_threads_are_those_to_one(shop, make_client):
    client = make_client()
    asked = [{"item": row % 5, "changes": [{"attribute": "color", "to": "red"}]} for row in range(20)]
    alone = [client.post("/api/search", each).json["items"] for each in asked]

    async def together():
        headers = {"content-type": "application/json"}
        return await asyncio.gather(
            *(
                Client(client.app).call("POST", "/api/search", json.dumps(each).encode(), headers)
                for each in asked[:15]
            )
        )

    assert [answer.json["items"] for answer in asyncio.run(together())] == alone[:15]


def test_repeated_names_are_found_in_no_time():
    """A long body has thousands of names, all of which differ but the last."""
    names = [*(f"{number:x}" for number in range(20_000)), "7"]
    begun = time.monotonic()
    with pytest.raises(Refused, match="the field '7' is given twice"):
        parse_json(("{" + ",".join(f'"{name}":0' for name in names) + "}").encode())
    with pytest.raises(Refused, match="the field '7' is given twice"):
        Query([(name, "") for name in names])
    assert time.monotonic() - begun < 2
