"""The registered student as a folder: saved as an MLflow pyfunc without torch, sealed by digest, and checked before it is loaded."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import version as package_version
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from ctr_kd.export.release_code import foreign_code
from ctr_kd.export.signature import RawColumns, TextSignature, read_signature
from feature_store.tables.files import UnsafeFile, sha256_of
from feature_store.tables.folders import regular_files
from feature_store.tables.json_files import digest_of, write_text
from pipelines.registry.lineage import Contents, Lineage, StudentLineage
from pipelines.tracking.client import quieten_mlflow
from pipelines.workspace.artifacts import ArtifactError, read_json_as

if TYPE_CHECKING:
    import pandas as pd

CARD = "model_card.md"
SCORER_MODULE, PYFUNC_MODULE, VECTORS_MODULE = "student_scorer", "pyfunc_student", "newest_vectors"
DATA = "student"  # folder of the exported student inside the model
REPAIR = "register the student again: `ctr-kd register CONF --force`"
_REQUIREMENTS = ("numpy", "pandas", "pyarrow", "onnxruntime")
_OF_CLICKS = ("scipy",)  # whose sparse matrices sum what a student of clicks looks up
_ADDED = (Contents.FILE, "registered_model_meta")  # the second by MLflow's own download
_PICKLES = {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt"}
_PICKLED = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))  # how a pickle begins
_ROOT = Path(__file__).resolve().parents[2]
_PYFUNC = Path(__file__).with_name("pyfunc_model.py")
_VECTORS = _ROOT / "ctr_kd" / "export" / "newest_vectors.py"


def save_model(export: Path, destination: Path, lineage: Lineage, example: pd.DataFrame) -> str:
    """Save an exported student as an MLflow pyfunc that needs neither torch nor this project.

    Parameters
    ----------
    export : Path
        What ``ctr_kd.export.onnx_export.export_student`` wrote.
    destination : Path
        Directory to create; one that a killed run left is replaced.
    lineage : Lineage
        Where the student comes from: digests of data, configuration, teacher and code revision.
    example : DataFrame
        A few rows, kept as input example.

    Returns
    -------
    str
        Digest of the student: of the names and bytes of all that was exported.
    """
    quieten_mlflow()
    from mlflow import pyfunc

    from feature_store.features.statistics import PRODUCT  # a worker that scores needs none of that

    data, code = destination.with_name(DATA), destination.with_name("code")
    for path in (destination, data, code):
        if path.exists():
            shutil.rmtree(path)
    data.mkdir(parents=True)
    code.mkdir()
    files = {}
    for path in sorted(export.iterdir()):
        if path.is_file() and path.name != "scorer.py":
            shutil.copyfile(path, data / path.name)
            files[f"data/{DATA}/{path.name}"] = sha256_of(path)
    # MLflow imports it by name: those of two releases must not be taken for one another.
    loader = f"{PYFUNC_MODULE}_{sha256_of(_PYFUNC)[:16]}"
    signature = read_signature(export)
    modules = {SCORER_MODULE: export / "scorer.py", loader: _PYFUNC}
    modules |= {VECTORS_MODULE: _VECTORS} if PRODUCT in signature.columns.optional else {}
    for name, path in modules.items():
        shutil.copyfile(path, code / f"{name}.py")
        files[f"code/{name}.py"] = sha256_of(path)
    student = digest_of(files)
    packages = signature.packages if isinstance(signature, TextSignature) else _OF_CLICKS
    lineage.model_copy(update={"student": StudentLineage(digest=student, files=files)}).write(data)
    pyfunc.save_model(
        destination,
        loader_module=loader,
        data_path=str(data),
        code_paths=[str(code / f"{name}.py") for name in modules],
        signature=model_signature(signature.columns),
        input_example=example,
        pip_requirements=[f"{name}=={package_version(name)}" for name in (*_REQUIREMENTS, *packages)],
    )
    shutil.rmtree(data)
    shutil.rmtree(code)
    seal(destination)
    return student


def add_card(model: Path, text: str) -> None:
    """Put the model card beside what :func:`save_model` wrote."""
    write_text(model / CARD, text)
    seal(model)


def seal(model: Path) -> None:
    """List every file of a model with its digest; the registry keeps the digest of that list, see :func:`seal_of`."""
    _forget_bytecode(model)
    Contents(files={name: sha256_of(model / name) for name in regular_files(model) if name not in _ADDED}).write(model)


def seal_of(model: Path) -> str:
    """Digest of all that a model holds, its lineage and its card among it."""
    return sha256_of(model / Contents.FILE)


def model_signature(columns: RawColumns) -> Any:
    """The columns that a caller sends, as MLflow's signature.

    Every column is declared as ``any``: MLflow's own check would turn away integers for a statistic, times with a zone, ids
    as text, and costs ten microseconds per list. The scorer checks types itself and names the column that is wrong.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    required = [ColSpec(AnyType(), name) for name in columns.required]
    optional = [ColSpec(AnyType(), name, required=False) for name in columns.optional]
    return ModelSignature(Schema([*required, *optional]), Schema([ColSpec(DataType[kind], name) for name, kind in columns.answer.items()]))


def verify_model(path: Path, expected: str | None) -> None:
    """Check every file of a model before anything of it is loaded.

    Parameters
    ----------
    path : Path
    expected : str or None
        What :func:`seal_of` gave when the model was registered. None where nobody keeps it, as for a folder from elsewhere: then the code
        inside must be that of this release, since loading a model runs its code.

    Raises
    ------
    ArtifactError
        Naming the file that is missing, was changed, does not belong there or might run code of its own, and whatever is no file: a link
        or a pipe.
    """
    _forget_bytecode(path)
    try:
        found = {name for name in regular_files(path) if name not in _ADDED}
    except UnsafeFile as error:
        raise ArtifactError(f"{error}; {REPAIR}") from None
    contents = read_json_as(path / Contents.FILE, Contents)
    if contents is None:
        raise ArtifactError(f"{path} holds no {Contents.FILE}: it is no student that this release registered; {REPAIR}")
    if expected is not None and seal_of(path) != expected:
        raise ArtifactError(f"{path / Contents.FILE} does not match its digest in the registry; {REPAIR}")
    listed = contents.files
    for name in sorted(found):
        if is_pickle(path / name):
            raise ArtifactError(f"{path / name} is a pickle, which runs code when it is loaded; a student holds none, so it is refused")
        if name not in listed:
            raise ArtifactError(f"{path / name} does not belong to the model; delete that file, or {REPAIR}")
    for name, digest in listed.items():
        if name not in found or sha256_of(path / name) != digest:
            raise ArtifactError(f"{path / name} does not match its digest in {Contents.FILE}; {REPAIR}")
    if expected is None:
        _check_code(path)


def lineage_of(path: Path) -> Lineage:
    """Where a model whose digests were checked comes from."""
    lineage = read_json_as(path / "data" / DATA / Lineage.FILE, Lineage)
    if lineage is None:
        raise ArtifactError(f"{path} holds no {Lineage.FILE}: it is no student that this project registered")
    return lineage


def is_pickle(file: Path) -> bool:
    """Whether a file is a pickle, or might hold one, by its name or its first bytes."""
    if file.suffix.lower() in _PICKLES:
        return True
    with open(file, "rb") as stream:
        return stream.read(2) in _PICKLED


def _check_code(path: Path) -> None:
    foreign = foreign_code(path, (_PYFUNC, _VECTORS))
    if foreign is not None:
        raise ArtifactError(
            f"{path / foreign} is not the code of this release, and no registry vouches for it: it is not run; "
            "name models:/NAME/VERSION instead"
        )


def _forget_bytecode(model: Path) -> None:
    """Remove what Python compiled of the code inside: nothing vouches for it, and Python makes it again."""
    for cache in list(model.rglob("__pycache__")):
        if cache.is_dir() and not cache.is_symlink():  # what else has that name belongs to nobody, and is refused as such
            shutil.rmtree(cache)


def load_scorer(path: Path, threads: int = 1) -> Any:
    """The model's own scorer, whose ``score`` takes an Arrow table.

    ``mlflow.pyfunc`` serves the same class, but passes every batch through pandas.

    Parameters
    ----------
    path : Path
        Directory of a model whose digests were checked.
    """
    return scorer_in(path / "code" / f"{SCORER_MODULE}.py", path / "data" / DATA, threads)


def scorer_in(code: Path, student: Path, threads: int = 1) -> Any:
    """The scorer whose code is a file, for an exported student."""
    name = f"{SCORER_MODULE}_{sha256_of(code)[:16]}"
    module = importlib.util.module_from_spec(ModuleSpec(name, _Source(name, str(code)), origin=str(code)))
    _Source(name, str(code)).exec_module(module)
    scorer = getattr(module, "SCORER", None) or module.StudentScorer  # the name that it had in the release before
    return scorer(student, threads=threads)


class _Source(SourceFileLoader):
    """Runs a file as it is: bytecode beside it, which nobody has checked, is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)
