"""Makes pages of the site that lie nowhere else: home, the guide, the changelog, and one page per room."""

import ast
import pathlib
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PACKAGE = ROOT / "gradrev_jax"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to those of docs/."""
    for source, page in PAGES.items():
        content = with_site_links((ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=content))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=room_page(room)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads a page's links to files of the repository's root to their pages."""
    for source, page in PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


def rooms() -> list[str]:
    """Returns the names of the package's rooms."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def room_page(room: str) -> str:
    """Returns the API page of a room: its sentence, and all its modules.

    Args:
      room: the name of the room's folder.

    Example:
      >>> room_page("core").splitlines()[0]
      '# core'
    """
    sentence = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    files = sorted(path for path in (PACKAGE / room).rglob("*.py") if path.name != "__init__.py")
    modules = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    return "\n\n".join([f"# {room}", sentence or "", *(f"::: {module}" for module in modules)])


def with_site_links(text: str) -> str:
    """Returns a text of the repository's root with its links as they are in the site.

    A link into docs/ loses that folder, and a link to another page of ``PAGES`` leads there. A link to any
    other file of the repository, which the site does not have, becomes its text.

    Args:
      text: Markdown.

    Example:
      >>> with_site_links("[a](docs/a.md#b), [guide](CONTRIBUTING.md), [file](configs/default.py)")
      '[a](a.md#b), [guide](contributing.md), file'
    """

    def link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        path, anchor = re.fullmatch(r"([^#]*)(#.*)?", target).groups("")
        if "://" in target or not path:
            return found[0]
        if path.startswith("docs/"):
            return f"{image}[{words}]({path.removeprefix('docs/')}{anchor})"
        if path in PAGES:
            return f"[{words}]({PAGES[path]}{anchor})"
        return words

    return LINK.sub(link, text)
