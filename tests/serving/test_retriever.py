import dataclasses
import io
import json
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from gradrev_jax import Retriever
from gradrev_jax.core.indicators import make_indicator
from gradrev_jax.core.missing_labels import classes_of
from gradrev_jax.core.representations import make_space
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.evaluation.encoding import encode_run
from gradrev_jax.evaluation.opening import open_run
from gradrev_jax.evaluation.run_space import choose_space
from gradrev_jax.evaluation.searching import index_features
from gradrev_jax.search.index_files import fingerprint
from gradrev_jax.serving import opening
from gradrev_jax.serving.changes import Change
from gradrev_jax.serving.engine_runs import gallery_of
from gradrev_jax.serving.engines.vectors import DIGEST
from gradrev_jax.serving.items import Edited
from gradrev_jax.serving.matching import ANYTHING
from gradrev_jax.serving.opening import open_served


@pytest.fixture(scope="module")
def shop(shop_run):
    return Retriever.open(shop_run, progress=False)


@pytest.fixture(scope="module")
def paper_shop(paper_run):
    return Retriever.open(paper_run, progress=False)


def other_value(shop, row, name, step=1):
    """A value that an item does not have, of an attribute."""
    n = shop.schema.names.index(name)
    return shop.schema.values[n][(shop.labels[row, n] + step) % shop.schema.sizes[n]]


def accepted(shop, row, wanted):
    """The labels of each attribute that match: the one asked for, or without it none and what is likely."""
    likeliest = [max(of.items(), key=lambda each: each[1]) for of in shop.item(row).probabilities.values()]
    return [
        {label}
        if label >= 0
        else {-1, values.index(value)}
        if probability >= 0.5
        else {-1, *range(len(values))}
        for label, values, (value, probability) in zip(wanted, shop.schema.values, likeliest, strict=True)
    ]


def evaluated(directory):
    """The run, its chosen space and its index, as an evaluation has them."""
    run = open_run(directory, step="best", stage=None, protocol={}, data={}, progress=False)
    chosen = choose_space(run, encode_run(run, progress=False), progress=False)
    return (
        run,
        chosen,
        index_features(chosen.space.gallery, chosen.space.prototypes, run.schema, chosen.choices.way),
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["shop", "paper_shop"])
def test_it_finds_what_an_evaluation_finds(name, request):
    shop = request.getfixturevalue(name)
    run, chosen, index = evaluated(request.getfixturevalue({"shop": "shop_run"}.get(name, "paper_run")))
    schema, labels = run.schema, run.catalogue.part_labels("test")
    for row in range(6):
        changes = {attribute: other_value(shop, row, attribute) for attribute in schema.names[: 1 + row % 2]}
        indicator = make_indicator(schema, labels[row], changes)[None]
        expected = index.search(
            reference_ids=np.array([row]), indicators=indicator, k=8, strength=chosen.choices.way.strength
        )
        found = shop.item(row).change(**changes).search(k=8)
        assert found.rows.tolist() == expected.indices[0].tolist()
        np.testing.assert_allclose(found.distances, expected.distances[0], atol=1e-5)
        assert found.exact


@pytest.mark.long
def test_the_look_is_weighed_when_asked(shop, shop_run):
    run, chosen, _ = evaluated(shop_run)
    for look in (0.0, 0.3, 1.0):
        space = make_space("hybrid", chosen.material._replace(look=look))
        index = index_features(space.gallery, space.prototypes, run.schema, chosen.choices.way)
        expected = index.search(
            reference_ids=np.array([2]), indicators=np.zeros((1, run.schema.num_values), int), k=5
        )
        found = shop.item(2).search(k=5, look=look)
        assert found.rows.tolist() == expected.indices[0].tolist()
        np.testing.assert_allclose(found.distances, expected.distances[0], atol=1e-5)


def test_results_are_in_the_words_of_the_catalogue(shop):
    item = shop.item(3)
    name = shop.schema.names[0]
    value = other_value(shop, 3, name)
    found = item.change(**{name: value}).search(k=shop.num_items)
    assert len(found) == shop.num_items
    wanted = shop.labels[3].copy()
    wanted[0] = shop.schema.values[0].index(value)
    for result in found:
        row = result.row
        assert result.name == shop.names[row]
        words = [None if word == "not labelled" else word for word in shop.schema.words(shop.labels[row])]
        assert result.labels == dict(zip(shop.schema.names, words, strict=True))
        each = zip(shop.schema.names, shop.labels[row], accepted(shop, 3, wanted), strict=True)
        differs = [attribute for attribute, label, fits in each if label not in fits]
        assert list(result.differs) == differs
        assert result.matches == (not differs)
        for attribute, (value, probability) in result.predicted.items():
            of_values = shop.item(row).probabilities[attribute]
            assert of_values[value] == pytest.approx(probability)
            assert max(of_values.values()) == pytest.approx(probability)
    assert found.milliseconds > 0


def test_probabilities_are_those_of_calibrated_classifiers(shop, shop_run):
    run, chosen, _ = evaluated(shop_run)
    posteriors = make_space("posterior", chosen.material)
    blocks = np.asarray(posteriors.gallery) ** 2
    assert classes_of(run.schema, run.encoder.missing) == run.schema
    of_item = shop.item(4).probabilities
    for n, (name, values) in enumerate(zip(run.schema.names, run.schema.values, strict=True)):
        expected = blocks[4, n, : len(values)]
        np.testing.assert_allclose(list(of_item[name].values()), expected, atol=1e-6)
        assert shop.item(4).predicted[n] == expected.argmax()


def test_changes_chain_and_are_taken_back(shop):
    first, second = shop.schema.names[:2]
    a, b = other_value(shop, 0, first), other_value(shop, 0, second)
    item = shop.item(0)
    both = item.change(**{first: a}).change(**{second: b})
    at_once = item.change(**{first: a, second: b})
    assert both.search().rows.tolist() == at_once.search().rows.tolist()
    assert both.back().search().rows.tolist() == item.change(**{first: a}).search().rows.tolist()
    assert both.back().back().back().search().rows.tolist() == item.search().rows.tolist()
    assert both.asked == (Change(first, a), Change(second, b))
    again = both.change(**{first: shop.schema.words(shop.labels[0])[0]})  # as it was
    assert again.search().rows.tolist() == item.change(**{second: b}).search().rows.tolist()


def test_each_change_has_a_strength(paper_shop):
    name = paper_shop.schema.names[0]
    value = other_value(paper_shop, 0, name)
    item = paper_shop.item(0)
    weak = item.changes([Change(name, value, 1e-9)]).search(k=10)
    np.testing.assert_allclose(weak.distances, item.search(k=10).distances, atol=1e-6)
    strong = item.change(strength=3.0, **{name: value}).search(k=10)
    assert strong.distances[0] > weak.distances[0]


def test_a_value_is_removed(paper_shop, shop):
    name = shop.schema.names[0]
    for each in (paper_shop, shop):
        edited = each.item(0).change(**{name: None})
        found = edited.search(k=each.num_items)
        others = (each.labels[found.rows, 1:] == each.labels[0, 1:]).all(axis=1)
        has_it = each.labels[found.rows, 0] == each.labels[0, 0]
        assert found.matches.tolist() == (others & ~has_it).tolist()
        assert (others & has_it).any()
        assert edited.counts()[name] == dict(
            zip(
                each.schema.values[0],
                [
                    int(
                        (
                            (each.labels[:, 1:] == each.labels[0, 1:]).all(axis=1) & (each.labels[:, 0] == v)
                        ).sum()
                    )
                    for v in range(each.schema.sizes[0])
                ],
                strict=True,
            )
        )


@pytest.mark.parametrize("removes", ["label", "predicted", "expected"])
def test_a_value_that_was_removed_is_no_match(shop, removes):
    """Also where another value than the label is removed, as the one that is predicted."""
    name = shop.schema.names[0]
    row = int(np.flatnonzero(shop.predicted[:, 0] == shop.labels[:, 0])[0])
    item, label = shop.item(row), shop.labels[row, 0]
    predicted = item.predicted.copy()
    predicted[0] = (label + 1) % shop.schema.sizes[0]
    item = dataclasses.replace(item, described=item.described._replace(predicted=predicted))
    found = item.change(**{name: None}).search(k=shop.num_items, removes=removes)
    removed = [label] if removes == "label" else [label, predicted[0]]
    assert found.differs[:, 0].tolist() == np.isin(shop.labels[found.rows, 0], removed).tolist()


def test_unwanted_values_are_left_out_and_nothing_else_is_removed(paper_shop, shop):
    for each in (paper_shop, shop):
        name, values = each.schema.names[0], each.schema.values[0]
        item = each.item(0)
        own = int(item.labels[0])
        others = [v for v in range(len(values)) if v not in (own, item.predicted[0])][:2]
        changes = [Change(name, None, unwanted=tuple(values[v] for v in others))]
        found = item.changes(changes).search(k=each.num_items)
        kept = [row for row in item.search(k=each.num_items).rows if each.labels[row, 0] not in others]
        assert found.rows.tolist() == kept
        assert len(kept) < each.num_items
        assert (
            found.matches.tolist() == (each.labels[found.rows, 1:] == each.labels[0, 1:]).all(axis=1).tolist()
        )
        denied = item.changes([Change(name, None, unwanted=(values[own],))]).search(k=each.num_items)
        removed = item.change(**{name: None}).search(k=each.num_items)
        kept = each.labels[removed.rows, 0] != own
        assert denied.rows.tolist() == removed.rows[kept].tolist()
        np.testing.assert_array_equal(denied.distances, removed.distances[kept])


def test_unwanted_values_narrow_a_filter_and_the_counts_of_other_attributes(shop):
    name, values = shop.schema.names[0], shop.schema.values[0]
    edited = shop.item(1).changes([Change(name, None, unwanted=(values[0],))])
    found = edited.search(k=shop.num_items, where={name: [values[0], values[1]]})
    assert {result.labels[name] for result in found} == {values[1]}
    assert not len(edited.search(where={name: values[0]}))
    counts, ok = edited.counts(), accepted(shop, 1, shop.labels[1])
    right = np.stack([np.isin(shop.labels[:, m], list(each)) for m, each in enumerate(ok)], axis=1)
    for n, other in enumerate(shop.schema.names):
        fixed = [m for m in range(len(ok)) if m not in (0, n)]
        fits = right[:, fixed].all(axis=1) & ((shop.labels[:, 0] != 0) | (n == 0))
        expected = [(shop.labels[fits, n] == v).sum() for v in range(shop.schema.sizes[n])]
        assert list(counts[other].values()) == expected


def test_where_and_exclude_filter_exactly(shop):
    name, values = shop.schema.names[0], shop.schema.values[0]
    item = shop.item(1)
    everything = item.search(k=shop.num_items)
    for where in ({name: values[0]}, {name: [values[0], values[1]]}):
        allowed = [values.index(value) for value in np.atleast_1d(where[name])]
        kept = [row for row in everything.rows if shop.labels[row, 0] in allowed]
        assert item.search(k=shop.num_items, where=where).rows.tolist() == kept
        assert item.search(k=3, where=where).rows.tolist() == kept[:3]
    left = item.search(k=shop.num_items, exclude=[1, shop.names[5]])
    assert sorted({*left.rows, 1, 5}) == list(range(shop.num_items))
    assert 1 not in left.rows
    assert not len(item.search(where={name: None}))


def test_it_counts_exact_matches_with_each_value_in_place(shop):
    edited = shop.item(0).change(**{shop.schema.names[1]: other_value(shop, 0, shop.schema.names[1])})
    counts = edited.counts()
    for n, (name, values) in enumerate(zip(shop.schema.names, shop.schema.values, strict=True)):
        for v, value in enumerate(values):
            wanted = edited.wanted.copy()
            wanted[n] = v
            assert counts[name][value] == (shop.labels == wanted).all(axis=1).sum()
    allowed = {shop.schema.names[0]: shop.schema.values[0][0]}
    assert sum(edited.counts(allowed)[shop.schema.names[0]].values()) <= sum(
        counts[shop.schema.names[0]].values()
    )


def test_a_photograph_of_a_garment_is_that_garment(shop, shop_run):
    run, _, _ = evaluated(shop_run)
    pixels = np.asarray(run.inputs["test"][7])
    item = shop.photo(pixels)
    assert item.row is None
    assert item.labels.tolist() == [-1] * shop.schema.num_attributes
    found = item.search(k=1)
    assert found.rows.tolist() == [7]
    assert found.distances[0] < 1e-3
    described = item.described
    for n, wanted in enumerate(found.wanted):
        best = described.predicted[n]
        likely = described.probabilities[shop.schema.offsets[n] + best] >= 0.5
        assert wanted == (best if likely else ANYTHING)
    name = shop.schema.names[0]
    edited = item.change(**{name: shop.schema.values[0][0]})
    assert edited.wanted[0] == 0
    assert (
        edited.search(k=4).rows.tolist()
        == shop.item(7)
        .change(**{name: shop.schema.values[0][0]})
        .search(k=4, removes="predicted")
        .rows.tolist()
        or shop.labels[7, 0] == 0
    )


def test_photographs_come_in_many_forms(shop, tmp_path, rng):
    image = Image.fromarray(rng.integers(0, 255, (70, 70, 3), np.uint8))
    image.save(tmp_path / "photo.png")
    forms = [
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        (tmp_path / "photo.png").read_bytes(),
        image,
    ]
    found = [shop.photo(form).search(k=3).rows.tolist() for form in [*forms, np.asarray(image)]]
    assert found == [found[0]] * 5
    for mode in ("CMYK", "L", "1", "P", "RGBA", "LA"):
        shop.photo(image.convert(mode))
    shop.photo(Image.new("RGB", (1, 1)))


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (b"", "is empty"),
        (b"GIF89a and nothing else", "is no image that can be read"),
        (b"<html>", "is no image that can be read"),
        (np.zeros((3, 4), np.uint8), r"must be uint8 \[H, W, 3\], got uint8 \(3, 4\)"),
        (np.zeros((3, 4, 3), np.float32), "must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), "must be uint8"),
        ("no/such/file.jpg", "no/such/file.jpg cannot be read: No such file"),
        (Image.new("1", (11_000, 10_000)), "has 11,000 x 10,000 pixels, more than the 100 megapixels"),
    ],
)
def test_what_is_no_photograph_is_refused(shop, unchecked, photo, message):
    with pytest.raises(DataError, match=message):
        shop.photo(photo)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda item: item.change(colour="red"), "no attribute is called 'colour'"),
        (lambda item: item.change(color="redd"), "color has no value 'redd'; did you mean red"),
        (
            lambda item: item.change(color="red", strength=float("nan")),
            "must be a number between -1,000,000 and 1,000,000, got nan",
        ),
        (lambda item: item.search(k=0), "k must be a whole number of at least 1, got 0"),
        (lambda item: item.search(k=True), "k must be a whole number"),
        (lambda item: item.search(look=-1), "look must lie between 0 and 100, got -1"),
        (lambda item: item.search(look=float("nan")), "look must lie between 0 and 100, got nan"),
        (lambda item: item.search(where={"hue": "red"}), "no attribute is called 'hue'"),
        (lambda item: item.search(where={"color": "re"}), "color has no value 're'; did you mean red"),
        (lambda item: item.search(removes="all"), "removes must be one of label, predicted, expected"),
    ],
)
def test_what_cannot_be_asked_is_refused(shop, unchecked, ask, message):
    with pytest.raises(ConfigError, match=message):
        ask(shop.item(0))


def test_what_is_not_in_the_gallery_is_refused(shop, unchecked):
    for which, message in [
        (-1, "rows 0 to"),
        (10**9, "rows 0 to"),
        (True, "a row or a name"),
        (1.5, "a row"),
    ]:
        with pytest.raises(DataError, match=message):
            shop.item(which)
    with pytest.raises(DataError, match=f"did you mean .*{shop.names[0]}"):
        shop.item(shop.names[0] + "x")


def test_a_run_without_looks_takes_none(paper_shop):
    assert not paper_shop.has_look
    assert paper_shop.look is None
    with pytest.raises(ConfigError, match="compares no looks"):
        paper_shop.item(0).search(look=0.5)


def test_pictures_are_jpeg_files_of_the_size_asked_for(shop):
    content = shop.picture(0, 48)
    assert content.startswith(b"\xff\xd8")
    assert Image.open(io.BytesIO(content)).size == (48, 48)


def test_several_threads_get_the_same_answers(shop):
    name = shop.schema.names[0]
    expected = [shop.item(row).change(**{name: None}).search(k=5).rows.tolist() for row in range(8)]
    wrong = []

    def ask():
        for row in range(8):
            found = shop.item(row).change(**{name: None}).search(k=5).rows.tolist()
            if found != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_gallery_is_encoded_once(shop, shop_run, monkeypatch):
    monkeypatch.setattr("gradrev_jax.serving.opening.open_run", None)  # it must not be called
    again = Retriever.open(shop_run, progress=False)
    assert again.item(0).search().rows.tolist() == shop.item(0).search().rows.tolist()


@pytest.mark.long
@pytest.mark.parametrize("change", ["labels", "weights", "damaged", "gone"])
def test_a_gallery_of_another_state_is_encoded_again(shop_run, tmp_path, change, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(shop_run, run, ignore=shutil.ignore_patterns("serving"))
    Retriever.open(run, progress=False)
    (folder,) = (run / "serving").iterdir()
    if change == "labels":
        about = json.loads((folder / "gallery.json").read_text())
        about["made_of"]["images"] = "another"
        (folder / "gallery.json").write_text(json.dumps(about))
    elif change == "weights":
        (run / "another.safetensors").write_bytes(b"")
    elif change == "damaged":
        (folder / "blocks.npy").write_bytes(b"\x93NUMPY")
    else:
        shutil.rmtree(folder)
    found = Retriever.open(run, progress=False).item(0).search()
    assert found.rows.tolist() == Retriever.open(shop_run, progress=False).item(0).search().rows.tolist()
    said = capsys.readouterr()
    assert ("encoding the gallery again" in said.out + said.err) == (change != "gone")
    assert (folder / "gallery.json").exists()


def served(run, representation, parts=("test",)):
    return open_served(
        run,
        parts=parts,
        step="best",
        protocol={"representation": representation},
        data={},
        progress=False,
    )


@pytest.fixture
def fitted(monkeypatch):
    """The runs whose space is fitted, each time that it is."""
    runs, fit = [], opening.fit_space
    monkeypatch.setattr(opening, "fit_space", lambda run, *a, **k: runs.append(run) or fit(run, *a, **k))
    return runs


@pytest.mark.parametrize("representation", ["hybrid", "features"])
def test_another_part_is_encoded_in_the_space_that_was_fitted(shop_run, tmp_path, fitted, representation):
    first, second = tmp_path / "first", tmp_path / "second"
    for run in (first, second):
        shutil.copytree(shop_run, run, ignore=shutil.ignore_patterns("serving"))
    served(first, representation)
    assert len(fitted) == 1
    later = served(first, representation, ("train", "test")).gallery
    assert len(fitted) == 1, "the space depends on no gallery"
    anew = served(second, representation, ("train", "test")).gallery
    assert len(fitted) == 2
    assert (later.stage, later.step) == (anew.stage, anew.step)
    np.testing.assert_array_equal(later.blocks, anew.blocks)
    np.testing.assert_array_equal(later.own_logits, anew.own_logits)
    assert later.space.metadata() == anew.space.metadata()
    for name, array in anew.space.arrays().items():
        np.testing.assert_array_equal(later.space.arrays()[name], array)


@pytest.mark.parametrize("change", ["weights", "step", "stage", "damaged", "another", "link"])
def test_a_space_of_another_state_is_fitted_again(shop_run, tmp_path, fitted, change):
    run = tmp_path / "run"
    shutil.copytree(shop_run, run, ignore=shutil.ignore_patterns("serving"))
    folder = served(run, "hybrid").kept
    about = json.loads((folder / "gallery.json").read_text())
    if change == "weights":
        (run / "another.safetensors").touch()
    elif change in ("step", "stage"):
        about[change] = {"step": about["step"] + 1, "stage": "memory"}[change]
    elif change == "damaged":
        (folder / "space.safetensors").write_bytes(b"")
    elif change == "another":
        about["made_of"]["fitted_to"] = "another"
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    (folder / "gallery.json").write_text(json.dumps(about))
    served(run, "hybrid", ("train",))
    assert len(fitted) == 2


def test_the_digest_of_a_gallery_goes_with_it(shop_run, tmp_path, capsys):
    """Or an engine that holds another gallery would be taken for its own."""
    run = tmp_path / "run"
    shutil.copytree(shop_run, run, ignore=shutil.ignore_patterns("serving"))
    digests = []
    for weights in ("first", "second"):
        (run / f"{weights}.safetensors").touch()  # so that the gallery is encoded again
        opened = served(run, "hybrid")
        gallery_of(opened)
        digests.append((opened.kept / DIGEST).read_text())
        assert digests[-1] == fingerprint(opened.gallery.blocks)
        (opened.kept / f".{DIGEST}-a0b1c2d_.part").touch()  # by a process that was killed
    assert served(run, "features").kept != opened.kept
    assert "not kept" not in capsys.readouterr().err

    (opened.kept / "notes").touch()  # which no one may remove
    (run / "third.safetensors").touch()
    assert served(run, "hybrid").kept is None
    assert "the encoded gallery is not kept" in capsys.readouterr().err
    assert served(run, "hybrid").kept is None


@pytest.mark.long
def test_a_gallery_may_have_several_parts(shop_run):
    whole = Retriever.open(shop_run, parts=("train", "test"), progress=False)
    test = Retriever.open(shop_run, progress=False)
    assert whole.num_items > test.num_items
    offset = whole.num_items - test.num_items
    np.testing.assert_array_equal(whole.labels[offset:], test.labels)
    np.testing.assert_allclose(whole.item(offset).blocks, test.item(0).blocks, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "got none"),
        (("tset",), "did you mean test"),
        (("test", "test"), "once"),
        ("test", r"as \('test',\)"),
    ],
)
def test_parts_that_there_are_not_are_refused(shop_run, parts, message):
    with pytest.raises(ConfigError, match=message):
        Retriever.open(shop_run, parts=parts, progress=False)


def test_what_is_no_filter_no_name_and_no_photograph_is_said(shop, unchecked):
    item = shop.item(0)
    with pytest.raises(ConfigError, match=r"where must be values by attribute, .* got 'color'"):
        item.search(where="color")
    with pytest.raises(ConfigError, match="color has no value 3"):
        item.search(where={"color": 3})
    with pytest.raises(ConfigError, match="strength of a change of color must be a number .*, got '2'"):
        item.change(color="blue", strength="2")
    for nothing in (None, 3.5):
        with pytest.raises(DataError, match=f"a photograph is a path, an open file, .* got {nothing}"):
            shop.photo(nothing)


def test_one_garment_alone_may_be_left_out(shop):
    nearest = shop.item(0).search(k=3)
    for which in (0, shop.names[0]):
        assert shop.item(0).search(k=2, exclude=which).rows.tolist() == nearest.rows[1:].tolist()


def test_an_upload_is_read_as_its_bytes_are(shop, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    with path.open("rb") as upload:
        np.testing.assert_array_equal(shop.photo(upload).blocks, shop.photo(path.read_bytes()).blocks)


def test_a_garment_without_a_label_is_matched_by_its_likely_value_or_by_none(shop, monkeypatch):
    """Where missing labels were ignored in training; a class for them is matched by itself alone."""
    n = shop.schema.names.index("color")
    labels = shop.labels.copy()
    labels[0, n] = -1
    monkeypatch.setattr(shop, "labels", labels)
    item = shop.item(0)
    certain = np.full_like(item.described.probabilities, 0)
    certain[np.asarray(shop.schema.offsets) + item.predicted] = 1
    item = dataclasses.replace(item, described=item.described._replace(probabilities=certain))
    assert shop.ignores_missing
    found = Edited(item, ()).search(k=shop.num_items)
    has_color = found.labels[:, n]
    expected = (has_color == -1) | (has_color == item.predicted[n])
    assert (found.differs[:, n] == ~expected).all()
    assert 1 < expected.sum() < len(expected)
    monkeypatch.setattr(Retriever, "ignores_missing", False)
    found = Edited(item, ()).search(k=shop.num_items)
    assert (found.differs[:, n] == (found.labels[:, n] != -1)).all()


def test_counts_and_matches_agree_where_a_filter_names_what_the_garment_is_not(shop):
    """The filtered value is asked for in place of the garment's own, unless a change asks for another."""
    schema, n = shop.schema, 1
    name, other = schema.names[n], other_value(shop, 0, schema.names[n])
    edited, where = shop.item(0).changes([]), {name: other}
    found = edited.search(k=shop.num_items, where=where)
    assert found.wanted[n] == schema.values[n].index(other)
    counts = edited.counts(where)
    assert counts[name][other] == found.matches.sum()
    for m, values in enumerate(schema.values):
        wanted = edited.wanted_among(where)
        for wanted[m], value in enumerate(values):
            assert counts[schema.names[m]][value] == (shop.labels == wanted).all(axis=1).sum() * (
                m != n or value == other
            )


def test_a_filter_does_not_make_a_change_come_true(shop):
    n = 1
    name = shop.schema.names[n]
    asked, filtered = shop.schema.values[n][:2]
    edited = shop.item(0).change(**{name: asked})
    found = edited.search(k=shop.num_items, where={name: filtered})
    assert len(found)
    assert not found.matches.any()
    assert found.differs[:, n].all()
    assert not any(edited.counts({name: filtered})[shop.schema.names[0]].values())


def test_where_no_garment_is_labelled_none_has_the_same_attributes(shop, monkeypatch):
    """-1 would match -1, and all would be as asked for."""
    n = shop.schema.names.index("color")
    labels = shop.labels.copy()
    labels[:, n] = -1
    monkeypatch.setattr(shop, "labels", labels)
    monkeypatch.setattr(shop, "is_labelled", (labels != -1).any(axis=0))
    for ignores in (True, False):
        monkeypatch.setattr(Retriever, "ignores_missing", ignores)
        item = shop.item(0)
        likely = item.probabilities["color"][shop.schema.values[n][item.predicted[n]]] >= 0.5
        found = item.search(k=shop.num_items)
        assert found.wanted[n] == (item.predicted[n] if likely else ANYTHING)
        assert found.differs[:, n].all() == likely
