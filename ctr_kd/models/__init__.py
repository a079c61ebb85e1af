"""Models, one file each. The closed dictionary turns a configured kind into a student."""

from ctr_kd.config import FinetuneConfig
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.bilstm import BiLSTM, BiLSTMPair
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.cross_encoder import CrossEncoder
from ctr_kd.models.dcn import DCN
from ctr_kd.models.din import DIN
from ctr_kd.models.pooled import Pooled
from ctr_kd.samples import Signature

STUDENTS = {"pooled": Pooled, "bilstm": BiLSTM, "bilstm_pair": BiLSTMPair, "din": DIN, "dcn": DCN}
Teacher = ClickBert | CrossEncoder


def build_teacher(pretrained: MaskedItemModel, signature: Signature, config: FinetuneConfig) -> Teacher:
    """The pretrained encoder under a head: a single token as segment B is a candidate, which shares the reading of its history."""
    return ClickBert(pretrained, signature, config) if signature.max_length_b == 1 else CrossEncoder(pretrained, signature, config)
