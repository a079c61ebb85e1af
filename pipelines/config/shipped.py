"""The configurations that come with the project: a checkout has them in its folder ``conf``, an installed package brings them along."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "conf"


def shipped_names() -> list[str]:
    """What the configurations that come with the project are called.

    Examples
    --------
    >>> shipped_names()
    ['afqmc', 'globo', 'mind', 'ml100k', 'reviews', 's3rec', 'simulated', 'tnews', 'tnews5', 'trec']
    """
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def shipped_file(conf: Path) -> Path | None:
    """The file that comes with the project under the name of a configuration.

    Parameters
    ----------
    conf : Path
        As a user names it: ``conf/simulated.yaml``, ``simulated.yaml`` or ``simulated``.

    Returns
    -------
    Path or None
        None where ``conf`` is a file of its own, which goes first, and where nothing of that name comes with the project.
    """
    if conf.is_file():
        return None
    file = SHIPPED / f"{conf.stem}.yaml"
    written_as = (Path(file.stem), Path(file.name), Path("conf", file.name))
    return file if conf in written_as and file.is_file() else None
