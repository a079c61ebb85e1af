"""What the program loads before it does anything, and what libraries find out once in a process."""

import importlib

import onnxruntime
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

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
    "pipelines.stages",
    "pipelines.tracking.tracker",
):
    importlib.import_module(_name)

warn_dependency_requirement_mismatches([f"onnxruntime=={onnxruntime.__version__}"])  # goes through the files of all packages, once
