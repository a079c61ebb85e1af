"""Models, one file each. The closed dictionary turns a configured kind into a student."""

from ctr_kd.models.bilstm import BiLSTM
from ctr_kd.models.pooled import Pooled

STUDENTS = {"bilstm": BiLSTM, "pooled": Pooled}
