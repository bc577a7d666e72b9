import pathlib
import types

import pytest

from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.web import run
from gradrev_jax.serving.web.guard import local_hosts
from tests.serving.web.fake import SCHEMA


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST:1"])
def test_a_server_for_this_machine_answers_for_its_names(client, host):
    assert client.get("/api/attributes", host=host).status == 200


@pytest.mark.parametrize("path", ["/", "/api/attributes", "/images/3", "/nothing"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "evil@localhost", "[::1", "", None],
)
def test_it_does_not_answer_for_another_host(client, path, host):
    """Of DNS rebinding: a site that points its own name at this machine sends that name."""
    answer = client.get(path, host=host)
    assert answer.status == 421
    assert "does not answer for the host" in answer.error


def test_all_addresses_of_this_machine_are_known():
    assert local_hosts("127.0.0.1") == ("localhost", "127.0.0.1", "[::1]")
    assert local_hosts("::1") == ("localhost", "127.0.0.1", "[::1]")
    assert local_hosts("127.1.2.3") == ("localhost", "127.0.0.1", "[::1]", "127.1.2.3")
    assert local_hosts("::ffff:127.0.0.1")[3:] == ("[::ffff:127.0.0.1]",)
    assert local_hosts("::1", "0::1")[3:] == ("[0::1]",)
    for address in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"):
        assert local_hosts(address) is local_hosts(address, "localhost") is None


@pytest.fixture
def made(monkeypatch):
    """The hosts of each server that was made, of which none answers."""
    made = []
    shop = types.SimpleNamespace(schema=SCHEMA, name="mine", close=lambda: None)
    monkeypatch.setattr(run.Retriever, "open", lambda *given, **more: shop)
    monkeypatch.setattr(run, "create_app", lambda *given, hosts, **more: made.append(hosts))
    monkeypatch.setattr(run, "serve", lambda *given, **more: None)
    return made


@pytest.mark.parametrize("host", ["localhost", "Localhost", "127.1", "127.0.0.1", "2130706433", "0x7f.1"])
def test_the_guard_is_on_however_this_machine_is_spelt(made, host):
    """Found by reading: a server for ``--host=Localhost`` answered for every host."""
    run.serve_run(pathlib.Path("run"), host=host, port=0)
    assert {*made[0]} == {"localhost", "127.0.0.1", "[::1]", host.lower()}
    run.serve_run(pathlib.Path("run"), host=host, port=0, proxied=["Shop.example"])
    assert {*made[1]} == {*made[0], "shop.example"}


def test_with_names_a_server_that_others_reach_answers_for_them_alone(made):
    for proxied in ([], ["Shop.example"]):
        run.serve_run(pathlib.Path("run"), host="0.0.0.0", port=0, proxied=proxied)
    assert made == [None, ("localhost", "127.0.0.1", "[::1]", "shop.example")]


@pytest.mark.parametrize(
    "name", ["shop.example:8443", "https://shop.example", "shop.example/shop", "", "http://[::1]:80", "a b"]
)
def test_a_name_that_no_request_can_have_is_refused_at_once(name):
    with pytest.raises(ConfigError, match="is no host's name alone; give ") as caught:
        run.serve_run(pathlib.Path("run"), port=0, proxied=[name])
    assert caught.value.arguments == ("allow_host",)


def test_a_proxy_on_this_machine_may_pass_requests_on(make_client):
    client = make_client(hosts=(*local_hosts("127.0.0.1"), "shop.example"))
    asked = {"host": "shop.example", "origin": "https://shop.example"}
    assert client.post("/api/words", {"text": "red"}, **asked).status == 200
    asked["origin"] = "https://evil.example"
    assert client.post("/api/words", {"text": "red"}, **asked).status == 403


def test_a_name_in_capitals_is_answered_in_any_case(make_client):
    client = make_client(hosts=("Shop.example",))
    assert client.get("/api/attributes", host="shop.example").status == 200
    assert client.get("/api/attributes", host="SHOP.EXAMPLE:80").status == 200


def test_an_address_of_ipv6_is_compared_with_its_brackets(make_client):
    client = make_client(hosts=local_hosts("::1"))
    assert client.get("/api/attributes", host="[::1]:8000").status == 200
    assert client.get("/api/attributes", host="[::2]:8000").status == 421


def test_a_server_for_others_answers_for_every_host(make_client):
    assert make_client(hosts=None).get("/api/attributes", host="shop.example").status == 200


@pytest.mark.parametrize("path", ["/api/search", "/api/photos", "/api/words"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:8001", "http://localhost", "null", "localhost:8000"]
)
def test_pages_of_other_sites_cannot_send_anything(client, path, origin):
    answer = client.post(path, {"item": 3}, origin=origin)
    assert answer.status == 403
    assert "takes nothing from pages of" in answer.error


def test_its_own_page_can_send(client):
    assert client.post("/api/search", {"item": 3}, origin="http://localhost:8000").status == 200


@pytest.mark.parametrize("path", ["/", "/api/attributes", "/images/3", "/nothing", "/api/items?x=1"])
def test_every_answer_says_what_browsers_may_do_with_it(client, path):
    headers = client.get(path).headers
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy == {
        **dict.fromkeys(("default-src", "form-action", "frame-ancestors", "base-uri"), "'none'"),
        **dict.fromkeys(("script-src", "style-src", "connect-src"), "'self'"),
        "img-src": "'self'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_refusal_of_the_guard_has_the_same_headers(client):
    headers = client.get("/", host="evil.example").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
