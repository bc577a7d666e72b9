import pytest

from configs import tfds, variants


def test_the_first_word_is_the_data_set_and_the_others_the_system():
    config = tfds.get_config("celeb_a,adde_m,sane")
    assert (config.data.format, config.data.tfds_name) == ("tfds", "celeb_a")
    assert config.model.tap == variants.SYSTEMS["adde_m"]["model.tap"]
    assert config.protocol.strength == "validation"
    assert config.train.mirror


def test_the_name_may_be_left_to_its_field():
    assert tfds.get_config().data.tfds_name is None
    config = tfds.get_config("pairwise")
    assert (config.data.tfds_name, config.model.heads) == (None, "pairwise")


@pytest.mark.parametrize("name", tfds.SETTINGS)
def test_drawings_are_small_and_not_mirrored(name):
    config = tfds.get_config(f"{name},no_reversal")
    assert (config.data.image_size, config.train.mirror) == (64, False)
    assert config.reversal.weighting == "off"


def test_words_that_are_not_known_are_listed():
    with pytest.raises(ValueError, match="unknown word 'shared2' .* known: shared, pairwise"):
        tfds.get_config("shapes3d,shared2")
