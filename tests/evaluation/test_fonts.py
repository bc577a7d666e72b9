import shutil
import subprocess
import sys

import pytest
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gradrev_jax.evaluation import fonts
from gradrev_jax.evaluation.fonts import choose_fonts, cover, lettered, missing_note

SHIPPED = font_manager.fontManager.ttflist
HEBREW, CHINESE = "אדום", "红色"


def named(*names):
    return [font for font in SHIPPED if font.name in names]


def drawn(texts):
    """A figure of some texts, bold and not, drawn: warnings are errors."""
    with lettered(texts) as spell:
        figure = Figure()
        for position, text in enumerate(texts):
            for weight in ("normal", "bold"):
                figure.text(0.1, position / 10, spell(text), weight=weight)
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.fixture
def only_shipped(monkeypatch):
    """As on a machine whose fonts are Matplotlib's own."""
    own = [font for font in SHIPPED if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts._choose_installed.cache_clear()
    yield
    fonts._choose_installed.cache_clear()


def test_what_matplotlibs_font_has_needs_no_other():
    lettering = choose_fonts(["größe", "цвет", HEBREW, "→"])
    assert lettering.families == tuple(rcParams["font.family"])
    assert lettering.spell(HEBREW) == HEBREW


def test_a_font_that_has_the_characters_is_found_in_a_list():
    with rc_context({"font.family": ["STIXGeneral"]}):
        found = choose_fonts([f"color {HEBREW}"], named("cmr10", "DejaVu Serif", "DejaVu Sans"))
        none = choose_fonts([f"color {HEBREW}"], named("cmr10", "DejaVu Serif"))
    assert found.families == ("STIXGeneral", "DejaVu Sans")
    assert not found.missing
    assert none.families == ("STIXGeneral",)
    assert none.missing == set(HEBREW)
    assert none.spell(f"{HEBREW[0]} a") == "[U+05D0] a"


def test_a_font_that_is_gone_has_nothing(tmp_path):
    gone = [font_manager.FontEntry(fname=str(tmp_path / "gone.ttf"), name="Gone Sans")]
    assert choose_fonts([CHINESE], gone).missing == set(CHINESE)


@pytest.mark.parametrize(
    ("text", "best"), [("红", "Noto Sans CJK SC"), ("红ら", "Noto Sans CJK JP"), ("红한", "Noto Sans CJK KR")]
)
def test_chinese_characters_are_drawn_as_the_text_has_them_written(text, best):
    names = [f"Noto {style} CJK {region}" for style in ("Serif", "Sans") for region in ("SC", "JP", "KR")]
    assert cover(set(text), {name: set(text) for name in names}) == [best]


def test_a_missing_character_is_its_code_point_and_one_sentence_says_so(only_shipped):
    texts = [f"material {CHINESE}", "สี", "🧥", "$_$ red", HEBREW]
    figure = drawn(texts)
    shown = {text.get_text() for text in figure.texts}
    assert shown == {"material [U+7EA2 U+8272]", "[U+0E2A U+0E35]", "[U+1F9E5]", "$_$ red", HEBREW}
    assert missing_note([figure, figure], again="compare again") == (
        "No installed font has the characters ส, ี, 红, 色, 🧥: pictures show their code points, as [U+0E2A]; "
        "install a font that has them, such as Noto Sans Thai, Noto Sans CJK, Noto Emoji, and compare again."
    )
    assert missing_note([drawn(["red", HEBREW])]) is None


def test_many_missing_characters_are_counted(only_shipped):
    figure = drawn(["".join(map(chr, range(0x4E00, 0x4E10)))])
    assert "红" not in missing_note([figure])
    assert "一, 丁, 丂, 七, 丄, 丅, 丆, 万, 丈, 三 and 6 more: pictures" in missing_note([figure])


def test_nothing_leaks(only_shipped):
    before = dict(rcParams)
    with pytest.raises(KeyError), lettered([CHINESE]):
        raise KeyError
    assert dict(rcParams) == before


def test_a_font_installed_since_matplotlib_listed_them_is_found(tmp_path):
    """In a process of its own: Matplotlib keeps the list, on disk too."""
    dejavu = font_manager.findfont("DejaVu Sans", fallback_to_default=False)
    shutil.copy(dejavu, tmp_path / "new.ttf")
    (tmp_path / "broken.ttf").write_text("no font")
    script = f"""
from matplotlib import font_manager, rcParams
manager = font_manager.fontManager
manager.ttflist = [font for font in manager.ttflist if font.name == "STIXGeneral"]
font_manager.findSystemFonts = lambda: [{str(tmp_path / "broken.ttf")!r}, {str(tmp_path / "new.ttf")!r}]
rcParams["font.family"] = ["STIXGeneral"]
from gradrev_jax.evaluation.fonts import choose_fonts
assert choose_fonts([{HEBREW!r}]).families == ("STIXGeneral", "DejaVu Sans")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
