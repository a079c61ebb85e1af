"""A registered student, opened: its rows are made as those that it learned from, whatever the configuration says by now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from feature_store.config import AssemblyConfig
from feature_store.config_statistics import StatisticsConfig
from feature_store.config_types import parse_duration
from pipelines.registry.lineage import ConfigurationLineage
from pipelines.registry.loaded_model import load_model_folder
from pipelines.registry.model_package import DATA, lineage_of
from pipelines.scoring.feature_join import Joiner, StoreFeatures
from tests.pipelines.served import copied


def test_histories_and_statistics_are_made_by_the_settings_of_its_own_training(served_template: Path, tmp_path: Path) -> None:
    served = copied(served_template, tmp_path / "workspace")
    folder = tmp_path / "model"
    shutil.copytree(served.registry().download("models:/demo@champion"), folder)
    assert load_model_folder(folder).assembly(served.config.assembly) == served.config.assembly  # it does not say
    lineage = lineage_of(folder)
    settings = {"history": {"max_length": 2}, "statistics": {"windows": ["PT1H30M"]}, "split": {"unread": True}}
    lineage.model_copy(update={"configuration": ConfigurationLineage(keys={"ingest": settings})}).write(folder / "data" / DATA)
    model = load_model_folder(folder)
    made_as = model.assembly(served.config.assembly)
    assert made_as.statistics.windows == (parse_duration("90m"),) and made_as.history.max_length == 2
    assert made_as.split == served.config.split
    chosen = StatisticsConfig.model_validate({"windows": ["2h"], "of": [{"by": "user", "age_of_last": True}]})
    both = lineage.model_copy(
        update={"statistics": chosen.model_dump(mode="json"), "configuration": ConfigurationLineage(keys={"ingest": settings})}
    )
    both.write(folder / "data" / DATA)
    assert load_model_folder(folder).assembly(served.config.assembly).statistics == chosen  # what statistics.auto came to

    class Asked(StoreFeatures):
        def columns(self, config: AssemblyConfig) -> list[str]:
            return ["user_id", "item_id", "timestamp"]

        def of(self, table: pa.Table, config: AssemblyConfig) -> pa.Table:
            assert config == made_as
            return table.append_column("history", pa.array([["10"]]))

    rows = pa.table({"user_id": ["1"], "item_id": ["10"], "timestamp": ["2024-01-03T12:00"]})
    joined = Joiner.of(model, Asked(served.context()), served.config).features(rows)
    assert joined is not None and joined.column_names == ["history"]
