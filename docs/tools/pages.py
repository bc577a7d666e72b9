"""Makes pages of the site from files that lie beside docs/: the home page, the guide and the changelog."""

import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to those of docs/."""
    for source, page in PAGES.items():
        content = with_site_links((ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=content))
    return files


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
