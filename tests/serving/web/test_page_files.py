"""The files of the page, read as text; make test-page opens them in a browser."""

import re

import pytest

from gradrev_jax.serving.web.static_files import PAGE

FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.iterdir())}
MODULES = [name for name in FILES if name.endswith(".js")]


def test_they_stay_within_a_budget():
    assert sum(len(text.encode()) for text in FILES.values()) < 100 * 1024


def test_the_page_loads_every_module_at_once():
    loaded = re.findall(r'rel="modulepreload" href="static/([\w.]+)"', FILES["index.html"])
    assert sorted(loaded) == MODULES
    imported = {name for text in FILES.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert imported | {"main.js"} == set(MODULES)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_asked_of_another_host(name):
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+[\w./]*", FILES[name])
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", FILES[name])


def test_there_is_no_script_and_no_style_in_the_markup():
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", FILES["index.html"])


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_ever_set_as_markup_or_run_as_code(name):
    dangerous = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc"
    )
    assert not re.search(dangerous, FILES[name])
