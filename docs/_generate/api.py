"""The pages of the API: one for each room of each package, in the words of its docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feature_store", "ctr_kd", "pipelines")


@dataclass(frozen=True)
class Room:
    """A folder of a package, or the files that lie in none.

    Attributes
    ----------
    package : str
    name : str
        The folder's name; empty for the files of the package itself.
    modules : tuple of str
        Dotted names, those without a docstring left out.
    """

    package: str
    name: str
    modules: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.package}.{self.name}" if self.name else self.package

    @property
    def page(self) -> str:
        """Path of its page below the documentation's folder."""
        return f"reference/api/{self.package}/{self.name or 'top'}.md"


def rooms(root: Path = ROOT) -> list[Room]:
    """Every room of every package, alphabetically, the files of none first."""
    found = []
    for package in PACKAGES:
        folders = sorted(path for path in (root / package).iterdir() if path.is_dir() and any(path.rglob("*.py")))
        for folder in (root / package, *folders):
            paths = folder.glob("*.py") if folder.name == package else folder.rglob("*.py")
            modules = tuple(dotted(path, root) for path in sorted(paths) if docstring(path))
            if modules:
                found.append(Room(package, "" if folder.name == package else folder.name, modules))
    return found


def dotted(path: Path, root: Path) -> str:
    """Name by which a file is imported."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def docstring(path: Path) -> str:
    """First paragraph of a file's docstring, or nothing."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def page(room: Room) -> str:
    """Markdown of a room, which mkdocstrings fills."""
    own = room.title in room.modules  # what the room says of itself is the head of its page
    lines = [f"::: {room.title}", "    options: {heading_level: 1}", ""] if own else [f"# {room.title}", ""]
    for module in room.modules:
        if module != room.title:
            lines += [f"::: {module}", ""]
    return "\n".join(lines)


def public_names(package: str, root: Path = ROOT) -> dict[str, str]:
    """The names that a package offers, and the module that defines each."""
    tree = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PLACES"]
    return {name: module for table in tables for name, module in ast.literal_eval(table).items()}


def summary(module: str, name: str) -> str:
    """First paragraph of the docstring of a function or class."""
    body = ast.parse(file_of(module).read_text(encoding="utf-8")).body
    found = next(node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name)
    text = " ".join((ast.get_docstring(found) or "").partition("\n\n")[0].split())
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)  # a role of a docstring is a name here


def index() -> Iterator[str]:
    """What the packages offer, then a table of all modules, by room, for the API's first page."""
    page_of = {module: room.page.removeprefix("reference/") for room in rooms() for module in room.modules}
    yield from ("## Public names", "", "| name | what it is |", "| --- | --- |")
    for package in PACKAGES:
        for name, module in public_names(package).items():
            link = f"{page_of[module]}#{module}.{name}"
            yield f"| [`{package}.{name}`]({link}) | {_cell(summary(module, name))} |"
    yield ""
    for package in PACKAGES:
        yield from (f"## {package}", "", "| module | what it holds |", "| --- | --- |")
        for room in rooms():
            if room.package == package:
                link = room.page.removeprefix("reference/")
                yield from (f"| [`{module}`]({link}#{module}) | {_cell(docstring(file_of(module)))} |" for module in room.modules)
        yield ""


def file_of(module: str) -> Path:
    """The file that a module is."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`").replace("<", "&lt;")
