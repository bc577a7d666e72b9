import dataclasses
import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import Retriever
from gradrev_jax.serving.shown import results_json, results_table


@pytest.fixture(scope="module")
def shop(shop_run):
    return Retriever.open(shop_run, progress=False)


def test_it_prints_a_table_and_draws_a_picture(call, shop, shop_run, tmp_path):
    wanted = shop.schema.values[0][0]
    name = shop.schema.names[0]
    ended = call(
        "search",
        f"--workdir={shop_run}",
        "--item=3",
        f"--change={name}={wanted}",
        "--k=4",
        f"--out={tmp_path}/a.png",
    )
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].endswith(f"-> {wanted}")
    found = shop.item(3).change(**{name: wanted}).search(k=4, exclude=3)
    for line, result in zip(lines[3:7], found, strict=True):
        assert f"{result.distance:.4f}" in line
        assert result.name[-10:] in line
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 500


def test_json_is_that_of_python(call, shop, shop_run):
    name, value = shop.schema.names[1], shop.schema.values[1][1]
    ended = call(
        "search",
        f"--workdir={shop_run}",
        f"--item={shop.names[2]}",
        f"--where={name}={value}",
        "--k=3",
        "--json",
        "--look=0.2",
    )
    found = shop.item(2).search(k=3, where={name: value}, look=0.2, exclude=2)
    printed = json.loads(ended.out)
    assert [item["item"] for item in printed["items"]] == found.rows.tolist()
    assert [item["labels"] for item in printed["items"]] == [result.labels for result in found]
    assert printed["milliseconds"] > 0


def test_the_item_is_among_its_results_if_it_is_asked_for(call, shop, shop_run):
    """It was always the first, at distance 0, also where it is not what was asked for."""
    for flags, first in ([], shop.item(0).search(k=2).rows[1]), (["--keep_item"], 0):
        ended = call("search", f"--workdir={shop_run}", "--item=0", "--k=2", "--json", *flags)
        assert json.loads(ended.out)["items"][0]["item"] == first


def test_a_search_that_finds_or_changes_nothing_says_so(call, shop, shop_run):
    name = shop.schema.names[0]
    nothing = call("search", f"--workdir={shop_run}", "--item=0", f"--where={name}=")
    assert nothing.out.endswith("\n\nnothing was found; ask for less with --where\n")
    for text in ("", "hello"):
        unchanged = call("search", f"--workdir={shop_run}", "--item=0", f"--say={text}")
        assert "--say asks for no change, so garments like the item as it is are searched" in unchanged.err


def test_words_become_changes(call, shop, shop_run):
    value = next(value for value in shop.schema.values[shop.schema.names.index("color")])
    spoken = call("search", f"--workdir={shop_run}", "--item=0", f"--say=but {value}, frobnicated", "--json")
    given = call("search", f"--workdir={shop_run}", "--item=0", f"--change=color={value}", "--json")
    found = [[item["item"] for item in json.loads(ended.out)["items"]] for ended in (spoken, given)]
    assert found[0] == found[1]
    assert "not understood, and left out: frobnicated" in spoken.err


def test_unwanted_values_in_words_are_said_and_left_out(call, shop, shop_run):
    """Found by use: "anything but black" took the white of a white shoe away, and black ones matched."""
    n = shop.schema.names.index("color")
    own, other = shop.schema.words(shop.labels[0])[n], shop.schema.values[n][shop.labels[0, n] - 1]
    ended = call("search", f"--workdir={shop_run}", "--item=0", f"--say=anything but {other}", "--k=200")
    assert ended.out.splitlines()[0] == f"not color: {other}"
    assert f"color: {other}" not in ended.out.split("\n", 1)[1]
    several = call("search", f"--workdir={shop_run}", "--item=0", f"--say=neither {own} nor {other}")
    assert several.out.splitlines()[0] == f"not color: {own} or {other}"
    removed = call("search", f"--workdir={shop_run}", "--item=0", "--change=color=", "--k=200", "--json")
    items = json.loads(removed.out)["items"]
    assert own in [item["labels"]["color"] for item in items]
    for item in items:
        assert ("color" in item["differs"]) == (item["labels"]["color"] == own)


def test_a_photograph_is_read_from_a_file(call, shop, shop_run, tmp_path):
    Image.fromarray(np.full((50, 40, 3), 200, np.uint8)).save(tmp_path / "photo.png")
    ended = call(
        "search", f"--workdir={shop_run}", f"--image={tmp_path}/photo.png", "--k=2", f"--out={tmp_path}/b.png"
    )
    assert ended.status == 0, ended.err
    assert (tmp_path / "b.png").exists()


def test_a_photograph_is_drawn_within_the_limit_of_the_run(call, shop_run, tmp_path):
    Image.new("1", (10_001, 10_000)).save(tmp_path / "large.png")
    shutil.copytree(shop_run, tmp_path / "run")  # its gallery is encoded again for another config
    flags = [f"--workdir={tmp_path}/run", f"--image={tmp_path}/large.png", "--k=2", f"--out={tmp_path}/c.png"]
    refused = call("search", *flags)
    assert refused.status == 3
    assert "more than the 100 megapixels" in refused.err
    ended = call("search", *flags, "--data.largest_image=101")
    assert ended.status == 0, ended.err
    assert (tmp_path / "c.png").exists()


def test_json_stays_alone_where_a_picture_is_drawn(call, shop_run, tmp_path):
    ended = call("search", f"--workdir={shop_run}", "--item=0", "--json", f"--out={tmp_path}/d.png")
    assert json.loads(ended.out)["items"]
    assert f"Picture: {tmp_path}/d.png" in ended.err


def test_a_picture_of_another_kind_is_refused_before_the_run_is_opened(call, tmp_path):
    ended = call("search", f"--workdir={tmp_path}", "--item=0", "--out=grid.gif")
    assert ended.status == 3
    assert "--out=grid.gif must end in .png" in ended.err
    assert not ended.out


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ([], 2, "give --image=FILE, or --item=NAME"),
        (
            ["--item=0", "--image=a.jpg"],
            2,
            "--item=NAME for one of the gallery, not both",
        ),
        (["--item=0", "--strength=nan"], 2, "--strength=nan is no number"),
        (["--item=nothing.png"], 3, "no image of the gallery is called 'nothing.png'"),
        (["--item=0", "--change=color"], 2, "--change=color has no equals sign"),
        (["--item=0", "--change=colour=red"], 2, "no attribute is called 'colour'"),
        (["--item=0", "--where=color=redd"], 2, "color has no value 'redd'; did you mean red?"),
        (
            ["--item=0", "--say=a red shirt with white dots"],
            2,
            "'red … white' may mean several things; give one of --change=color=red, --change=color=white",
        ),
        (
            ["--item=0", "--say=too long"],
            2,
            'give one of --say="not length=long", --say="not sleeve=long"',
        ),
        (["--item=0", "--parts=tests"], 2, "did you mean test?"),
        (["--item=0", "--out=grid.gif"], 3, "--out=grid.gif must end in .png"),
        (["--item=0", "--where=color=", "--out=grid.png"], 3, "nothing was found"),
        (["--item=0", "--strength=1e7"], 2, "flag --strength=1e7"),
        (["--item=0", "--strength=inf"], 2, "flag --strength=inf"),
        (["--image=no/file.png"], 3, "no/file.png cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked_is_one_message(call, shop_run, flags, status, message):
    ended = call("search", f"--workdir={shop_run}", *flags)
    assert ended.status == status
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_a_photograph_comes_through_a_pipe(call, shop_run, tmp_path):
    """Found by use: a pipe has no size, and was called empty."""
    pipe, photo = tmp_path / "pipe", tmp_path / "photo.png"
    Image.fromarray(np.full((50, 40, 3), 200, np.uint8)).save(photo)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(photo.read_bytes(),))
    writer.start()
    ended = call("search", f"--workdir={shop_run}", f"--image={pipe}", "--k=2", "--json")
    writer.join()
    assert ended.status == 0, ended.err
    read = call("search", f"--workdir={shop_run}", f"--image={photo}", "--k=2", "--json")
    assert json.loads(ended.out)["items"] == json.loads(read.out)["items"]


def test_results_of_an_approximate_engine_say_so(shop):
    found = shop.item(0).search(k=2)
    assert results_json(found)["exact"] is True
    assert "approximately" not in results_table(found)
    approximate = dataclasses.replace(found, exact=False)
    assert results_json(approximate)["exact"] is False
    assert results_table(approximate).endswith("The engine searches approximately: others may be nearer.")
