"""Hugging Face folders there and back: small random checkpoints that ``transformers`` wrote, and ours read by ``transformers``."""

import json
import os

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ctr_kd.config import EncoderConfig
from ctr_kd.huggingface.convert import InterchangeError, TextVocabulary, export_bert, load_bert
from ctr_kd.huggingface.folder import folder_files, lowercases
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.training.pretrain import build_encoder

WORDS = ["[PAD]", "[unused1]", "你", "好", "\u2028", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(11))]
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 12,
}
SAME = {"rtol": 0, "atol": 1e-5}


def write_folder(folder, kind="BertForPreTraining", **settings):
    """A random checkpoint written by ``transformers``. Its weights are larger than a new model's, so that every one of them tells."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.BertConfig(**{**SHAPE, "initializer_range": 0.1, **settings})).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() == 1:
                value += 0.2 * torch.randn_like(value)
            elif "word_embeddings" in name:
                value[0] = value.std() * torch.randn_like(value[0])  # released checkpoints have a [PAD] that is not zero
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return model


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "bert")
    return tmp_path / "bert"


def edit_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def edit_weights(folder, change):
    """Rewrite model.safetensors with its tensors as ``change`` makes them."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file({name: value.clone() for name, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def to_bin(folder, change=dict):
    """Replace model.safetensors by a pytorch_model.bin."""
    torch.save(change(load_file(folder / "model.safetensors")), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def batch(longest=9):
    """Right-padded sequences in two segments: tokens (batch, length), lengths, segments and the mask of real positions."""
    rng = np.random.default_rng(5)
    length = torch.tensor([longest, 1, 4, 6])
    at = torch.arange(longest)
    real = at < length[:, None]
    ids = torch.from_numpy(rng.integers(0, len(WORDS), (4, longest))) * real
    return ids, length, ((at >= 2) & real).long(), real


@torch.no_grad()
def ours(model):
    """Hidden states of real positions, all logits there, and the next-segment logit of the first position."""
    ids, length, segment, real = batch()
    hidden = model.bert(ids.int().unsqueeze(-1), length, segment)
    return (
        hidden[real],
        model.all_items(model.transform(hidden[real])),
        model.next_segment(hidden[:, 0]).squeeze(1),
    )


@torch.no_grad()
def theirs(model):
    """The same of a BertForPreTraining of ``transformers``."""
    ids, _, segment, real = batch()
    out = model(input_ids=ids, attention_mask=real.long(), token_type_ids=segment, output_hidden_states=True)
    pair = out.seq_relationship_logits
    return out.hidden_states[-1][real], out.prediction_logits[real], pair[:, 0] - pair[:, 1]


def test_a_checkpoint_of_transformers_gives_its_outputs(folder):
    loaded = load_bert(folder)
    assert loaded.untrained == () and not loaded.model.training
    for mine, other in zip(ours(loaded.model), theirs(transformers.BertForPreTraining.from_pretrained(folder).eval()), strict=True):
        assert mine.abs().max() > 0.5  # the comparison says something
        torch.testing.assert_close(mine, other, **SAME)


def test_only_rounding_lies_between_the_two(folder):
    other = transformers.BertForPreTraining.from_pretrained(folder).eval().double()
    for mine, expected in zip(ours(load_bert(folder).model.double())[:2], theirs(other)[:2], strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)


def test_our_checkpoint_gives_its_outputs_in_transformers(tmp_path):
    torch.manual_seed(1)
    config = EncoderConfig(width=16, layers=3, heads=2, positions="from_start", norm_epsilon=1e-6)
    model = MaskedItemModel(Bert({"item": len(WORDS)}, 10, config), torch.arange(len(WORDS), dtype=torch.int32)[:, None]).eval()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.3 * torch.randn_like(value)
    export_bert(model, tmp_path / "bert", WORDS)
    for mine, other in zip(ours(model), theirs(transformers.BertForPreTraining.from_pretrained(tmp_path / "bert").eval()), strict=True):
        assert mine.abs().max() > 0.5  # the comparison says something
        torch.testing.assert_close(mine, other, **SAME)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction"])
def test_every_kind_loads_with_the_heads_that_it_has(kind, tmp_path):
    other = write_folder(tmp_path / "bert", kind)
    loaded = load_bert(tmp_path / "bert")
    expected = {
        "BertModel": ("masked_item", "next_segment"),
        "BertForMaskedLM": ("pooler", "next_segment"),
        "BertForPreTraining": (),
        "BertForNextSentencePrediction": ("masked_item",),
    }
    assert loaded.untrained == expected[kind]
    ids, _, segment, real = batch()
    with torch.no_grad():
        out = other(input_ids=ids, attention_mask=real.long(), token_type_ids=segment, output_hidden_states=True)
    hidden, logits, _ = ours(loaded.model)
    torch.testing.assert_close(hidden, out.hidden_states[-1][real], **SAME)
    if kind == "BertForMaskedLM":
        torch.testing.assert_close(logits, out.logits[real], **SAME)
    if kind == "BertModel":
        with torch.no_grad():
            pooled = loaded.model.next_segment[:2](loaded.model.bert(ids.int()[..., None], real.sum(1), segment)[:, 0])
        torch.testing.assert_close(pooled, out.pooler_output, **SAME)


def test_a_pytorch_model_bin_with_the_names_of_2018_is_the_same(folder):
    expected = ours(load_bert(folder).model)

    def old(weights):
        names = {name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta") for name in weights}
        weights = {names[name]: value for name, value in weights.items()}
        weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
        weights["bert.embeddings.position_ids"] = torch.arange(12)[None]
        return weights

    to_bin(folder, old)
    for mine, other in zip(ours(load_bert(folder).model), expected, strict=True):
        assert torch.equal(mine, other)


def test_half_precision_is_read_as_float32(folder):
    edit_weights(folder, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    loaded = load_bert(folder)
    assert {value.dtype for value in loaded.model.state_dict().values()} == {torch.float32}
    other = transformers.BertForPreTraining.from_pretrained(folder, dtype=torch.float32).eval()
    torch.testing.assert_close(ours(loaded.model)[1], theirs(other)[1], **SAME)


def test_the_layer_norm_epsilon_is_the_folders(tmp_path):
    other = write_folder(tmp_path / "bert", layer_norm_eps=0.1)
    torch.testing.assert_close(ours(load_bert(tmp_path / "bert").model)[1], theirs(other)[1], **SAME)


def test_the_vocabulary_and_its_special_tokens(folder):
    expected = {"[PAD]": 0, "[UNK]": 5, "[MASK]": 8, "[CLS]": 6, "[SEP]": 7}
    assert load_bert(folder).vocabulary == TextVocabulary(WORDS, expected)
    (folder / "vocab.txt").unlink()
    assert load_bert(folder).vocabulary is None


def test_a_round_trip_is_exact(folder, tmp_path):
    first = load_bert(folder)
    (tmp_path / "out").mkdir()  # an empty folder may be taken
    export_bert(first.model, tmp_path / "out", first.vocabulary.tokens)
    second = load_bert(tmp_path / "out")
    assert second.vocabulary == first.vocabulary and second.model.bert.config == first.model.bert.config
    assert second.model.state_dict().keys() == first.model.state_dict().keys()
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    export_bert(second.model, tmp_path / "again", second.vocabulary.tokens)
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1  # who may read one file may read all


def test_padding_changes_no_output_when_positions_count_from_the_start(folder):
    model = load_bert(folder).model
    ids, length, segment, real = batch()
    with torch.no_grad():
        for row in range(len(ids)):
            alone = model.bert(
                ids[row : row + 1, : length[row]].int().unsqueeze(-1), length[row : row + 1], segment[row : row + 1, : length[row]]
            )
            together = model.bert(ids.int().unsqueeze(-1), length, segment)[row, real[row]]
            torch.testing.assert_close(alone[0], together, **SAME)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, "it describes a 'roberta', and BERT alone is computed here"),
        ({"model_type": "distilbert"}, "it describes a 'distilbert'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not supported"),
        ({"is_decoder": True}, "is_decoder True is not supported"),
        ({"type_vocab_size": 4}, "type_vocab_size 4 is not supported"),
        ({"hidden_size": "wide"}, "hidden_size 'wide' is not supported"),
        ({"num_attention_heads": 5}, r"heads \(5\) must divide the width \(24\)"),
        ({"hidden_dropout_prob": 1.0}, "dropout 1.0 is not supported"),
    ],
)
def test_what_our_encoder_does_not_compute_is_refused_by_name(settings, message, folder):
    edit_config(folder, **settings)
    with pytest.raises(InterchangeError, match=message) as error:
        load_bert(folder)
    assert "\n" not in str(error.value) and str(folder / "config.json") in str(error.value)


def test_a_folder_that_is_no_bert(folder, tmp_path):
    with pytest.raises(InterchangeError, match=r"nowhere is not a Hugging Face BERT folder: it has no config\.json"):
        load_bert(tmp_path / "nowhere")
    for text, message in (("{", "is not JSON"), ("[]", "not a JSON object"), ('{"model_type": "bert"}', "vocab_size is missing")):
        (folder / "config.json").write_text(text)
        with pytest.raises(InterchangeError, match=message) as error:
            load_bert(folder)
        assert "\n" not in str(error.value)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InterchangeError, match=r"holds no weights: it has neither model\.safetensors nor pytorch_model\.bin"):
        load_bert(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(
        InterchangeError, match=r"holds its weights in parts \(model\.safetensors\.index\.json\): save them again in one file"
    ):
        load_bert(folder)


def test_words_in_a_tokenizer_json_alone_are_pointed_at(folder):
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InterchangeError, match=r"has no vocab\.txt: .* write the keys of its model\.vocab to vocab\.txt"):
        folder_files(folder)


@pytest.mark.parametrize(
    ("said", "found"), [(None, None), ("{}", None), ('{"do_lower_case": true}', True), ('{"do_lower_case": false}', False)]
)
def test_whether_case_counts_is_what_the_folder_says(folder, said, found):
    if said is not None:
        (folder / "tokenizer_config.json").write_text(said)
    assert lowercases(folder) is found


def test_a_checkpoint_of_another_shape_or_vocabulary(folder):
    edit_config(folder, intermediate_size=48)
    with pytest.raises(InterchangeError, match=r"intermediate.dense.weight is \(40, 24\), but config.json says \(48, 24\)"):
        load_bert(folder)
    edit_config(folder, intermediate_size=40, num_hidden_layers=3)
    with pytest.raises(InterchangeError, match=r"lacks 16 tensors .*\(encoder.layer.2.*, \.\.\.\)"):
        load_bert(folder)
    edit_config(folder, num_hidden_layers=1)
    with pytest.raises(InterchangeError, match=r"has 16 tensors beside those of a BERT \(encoder.layer.1"):
        load_bert(folder)
    edit_config(folder, num_hidden_layers=2, vocab_size=len(WORDS) + 1)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in [*WORDS, "one more"]))
    with pytest.raises(InterchangeError, match=r"word_embeddings.weight is \(20, 24\), but config.json says \(21, 24\)"):
        load_bert(folder)
    (folder / "vocab.txt").unlink()
    edit_config(folder, vocab_size=10**12)  # more than any memory holds
    with pytest.raises(InterchangeError, match=r"word_embeddings.weight is \(20, 24\), but config.json says \(1000000000000, 24\)"):
        load_bert(folder)


def test_missing_and_unknown_tensors_are_named(folder):
    edit_weights(folder, lambda weights: [weights.pop(f"bert.encoder.layer.1.attention.self.{part}.bias") for part in ("key", "query")])
    with pytest.raises(InterchangeError, match=r"lacks 2 tensors .*\(encoder.layer.1.attention.self.key.bias, .*query.bias\)"):
        load_bert(folder)
    write_folder(folder, "BertForSequenceClassification")
    with pytest.raises(InterchangeError, match=r"has 2 tensors beside those of a BERT \(classifier.bias, classifier.weight\)"):
        load_bert(folder)
    write_folder(folder)
    edit_weights(folder, lambda weights: weights.pop("cls.predictions.transform.dense.bias"))
    with pytest.raises(InterchangeError, match=r"lacks 1 tensors .*\(cls.predictions.transform.dense.bias\)"):
        load_bert(folder)


def test_an_output_layer_of_its_own_is_refused(folder):
    edit_weights(folder, lambda weights: weights.update({"cls.predictions.decoder.weight": torch.zeros(len(WORDS), 24)}))
    with pytest.raises(InterchangeError, match=r"decoder\.weight differs from embeddings\.word_embeddings\.weight"):
        load_bert(folder)


def test_quantised_weights_are_refused(folder):
    edit_weights(folder, lambda weights: weights.update({name: value.to(torch.int8) for name, value in weights.items()}))
    with pytest.raises(InterchangeError, match=r"holds torch\.int8, not floating point"):
        load_bert(folder)


@pytest.mark.parametrize("size", [0, 5, 200, -10])
def test_truncated_safetensors(size, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InterchangeError, match=r"model\.safetensors cannot be read") as error:
        load_bert(folder)
    assert "\n" not in str(error.value)


def test_a_pickle_with_code_in_it_is_refused(folder, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    to_bin(folder, lambda weights: {**weights, "code": Hostile()})
    with pytest.raises(InterchangeError, match=r"pytorch_model\.bin cannot be read \(it would call \w+\.mkdir\)") as error:
        load_bert(folder)
    assert "\n" not in str(error.value) and not (tmp_path / "executed").exists()


def test_a_truncated_bin(folder):
    to_bin(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InterchangeError, match=r"pytorch_model\.bin cannot be read"):
        load_bert(folder)


def test_a_bin_that_holds_no_tensors_by_name(folder):
    to_bin(folder, lambda weights: {"model": weights, "epoch": 3})
    with pytest.raises(InterchangeError, match="does not hold tensors by name"):
        load_bert(folder)


def test_a_vocabulary_that_does_not_fit(folder):
    path = folder / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS[:-1]))
    with pytest.raises(InterchangeError, match=r"vocab\.txt: 19 tokens, but the embedding has 20 rows"):
        load_bert(folder)
    path.write_text("".join(f"{word}\n" for word in WORDS).replace("[MASK]", "[mask]"))
    with pytest.raises(InterchangeError, match=r"vocab.txt: \[MASK\] missing"):
        load_bert(folder)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InterchangeError, match=r"vocab\.txt is not UTF-8"):
        load_bert(folder)


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_an_export_replaces_nothing(taken, folder, tmp_path):
    loaded, target = load_bert(folder), tmp_path / "out"
    if taken == "folder":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    else:
        target.write_text("mine")
    with pytest.raises(InterchangeError, match="exists and is not an empty folder"):
        export_bert(loaded.model, target)
    assert (target / "notes.txt" if taken == "folder" else target).read_text() == "mine"


def test_an_export_that_fails_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    loaded = load_bert(folder)
    monkeypatch.setattr("ctr_kd.huggingface.folder.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        export_bert(loaded.model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_tokens_that_would_not_come_back_are_refused(folder, tmp_path):
    model = load_bert(folder).model
    for tokens, message in (
        (WORDS[:-1], "19 tokens, but the embedding has 20 rows"),
        ([*WORDS[:-1], "a\nb"], r"token 19 is 'a\\nb'"),
        ([*WORDS[:-1], ""], "token 19 is ''"),
        ([*WORDS[:-1], "word0"], "'word0' is both token 9 and token 19"),
        ([word.lower() for word in WORDS], "the tokens to export: .* missing"),
    ):
        with pytest.raises(InterchangeError, match=message):
            export_bert(model, tmp_path / "out", tokens)
    assert not (tmp_path / "out").exists()


def test_what_a_hugging_face_bert_cannot_express_is_not_exported(assembly, signature, tmp_path):
    several = build_encoder(assembly, signature, EncoderConfig(width=16, positions="from_start"))
    with pytest.raises(InterchangeError, match=r"bert\.token\.tables\.gap\.weight, which a Hugging Face BERT has no place for"):
        export_bert(several, tmp_path / "out")
    whole = torch.arange(9, dtype=torch.int32)[:, None]
    with pytest.raises(InterchangeError, match=r"encoder.positions is 'from_end'.* train with 'from_start'"):
        export_bert(MaskedItemModel(Bert({"item": 9}, 4, EncoderConfig(width=16)), whole), tmp_path / "out")
    direct = EncoderConfig(width=16, positions="from_start", prediction="direct")
    with pytest.raises(InterchangeError, match=r"encoder.prediction is 'direct'.* train with 'transformed'"):
        export_bert(MaskedItemModel(Bert({"item": 9}, 4, direct), whole), tmp_path / "out")
    local = EncoderConfig(width=16, positions="from_start", local_filter=3)
    with pytest.raises(InterchangeError, match=r"holds bert.layers.0.local.*, which a Hugging Face BERT has no place for"):
        export_bert(MaskedItemModel(Bert({"item": 9}, 4, local), whole), tmp_path / "out")
    bert = Bert({"item": 9}, 4, EncoderConfig(width=16, positions="from_start"))
    with pytest.raises(InterchangeError, match="predicts 7 tokens of an embedding of 9"):
        export_bert(MaskedItemModel(bert, whole[2:]), tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_links_are_followed_in_a_users_data_and_nowhere_else(folder, name):
    """Hugging Face's own cache consists of links; what was taken into a store holds none."""
    (folder / name).rename(folder.parent / "held")
    (folder / name).symlink_to("../held")
    assert folder_files(folder) == ["config.json", "vocab.txt", "model.safetensors"]
    with pytest.raises(InterchangeError, match=rf"bert/{name} is a link"):
        load_bert(folder)
    (folder.parent / "held").unlink()
    with pytest.raises(InterchangeError, match=rf"bert/{name} is a link that leads nowhere"):
        folder_files(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    for read in (folder_files, load_bert):
        with pytest.raises(InterchangeError, match=rf"bert/{name} is a pipe"):
            read(folder)
