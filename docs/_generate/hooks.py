"""Events of a build: pages are generated, and what a built page would fetch from elsewhere is a warning, which ends a strict build."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs._generate import api, command_line, configuration
from docs._generate.network import fetched
from pipelines.cli.main import cli

log = logging.getLogger("mkdocs.hooks.pages")


def on_config(config: MkDocsConfig) -> None:
    """The API's pages take their place in the navigation, by package."""
    for entry in config.nav or []:
        for children in entry.values():
            if isinstance(children, list):
                for child in children:
                    if child == {"API": "reference/api.md"}:
                        child["API"] = _api_navigation()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is generated."""
    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> dict[str, str]:
    """Markdown of every generated page, by its path."""
    found = {"reference/command-line.md": command_line.page(cli), "reference/configuration.md": configuration.page()}
    found |= {room.page: api.page(room) for room in api.rooms()}
    return found


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The API's first page ends in the table of all modules."""
    return "\n".join([markdown, "", *api.index()]) if page.file.src_uri == "reference/api.md" else markdown


def on_post_build(config: MkDocsConfig) -> None:
    """A page is read as it was built: nothing of it comes from the network."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for url in fetched(path.read_text(encoding="utf-8")):
            log.warning(f"{path.relative_to(config.site_dir)} fetches {url}: pages are read without a network")


def _api_navigation() -> list[dict[str, Any]]:
    rooms = api.rooms()
    by_package = ({package: [{room.title: room.page} for room in rooms if room.package == package]} for package in api.PACKAGES)
    return [{"Overview": "reference/api.md"}, *by_package]
