"""The closed dictionary that turns a configured kind into a student."""

from ctr_kd.models.bilstm import BiLSTM, BiLSTMPair
from ctr_kd.models.dcn import DCN
from ctr_kd.models.din import DIN
from ctr_kd.models.pooled import Pooled

STUDENTS = {"pooled": Pooled, "bilstm": BiLSTM, "bilstm_pair": BiLSTMPair, "din": DIN, "dcn": DCN}
