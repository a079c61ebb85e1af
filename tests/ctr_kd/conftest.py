import pytest
import torch

from ctr_kd.data.samples import Assembly
from tests.ctr_kd.worlds import write_assembly


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return write_assembly(tmp_path_factory.mktemp("assembly"))


@pytest.fixture(scope="session")
def assembly(directory):
    return Assembly(directory, 5)


@pytest.fixture(scope="session")
def signature(assembly):
    return assembly.signature()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
