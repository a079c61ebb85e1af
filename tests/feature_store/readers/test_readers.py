from typing import get_args

from feature_store.config import SourceConfig
from feature_store.readers import READERS


def test_every_reader_that_a_configuration_may_name_exists() -> None:
    assert set(READERS) == set(get_args(SourceConfig.model_fields["reader"].annotation))
