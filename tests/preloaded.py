"""What the program loads before it does anything, and what libraries find out once in a process."""

import importlib
import pkgutil

import onnxruntime

from pipelines import stages
from pipelines.tracking.client import quieten_mlflow
from pipelines.workspace.source_digest import source_of

quieten_mlflow()  # before it is imported, as the program does
for _name in (
    "torch._dynamo",  # which torch.optim asks for
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "onnx",
    "faiss",
    "ctr_kd.export.onnx_export",
    "ctr_kd.report",
    "pipelines.tracking.tracker",
):
    importlib.import_module(_name)

requirements = importlib.import_module("mlflow.utils.requirements_utils")
requirements.warn_dependency_requirement_mismatches([f"onnxruntime=={onnxruntime.__version__}"])  # goes through all packages' files, once
for _stage in pkgutil.iter_modules(stages.__path__, f"{stages.__name__}."):
    source_of(_stage.name)  # takes a process nearly a second
