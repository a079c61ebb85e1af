"""An encoder of texts takes over a Hugging Face folder: what it then says of texts is what ``transformers`` says of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from ctr_kd.config import CHECKPOINT_LAYOUT, EncoderConfig, FinetuneConfig, PretrainConfig
from ctr_kd.data.batching import gather, make_batch
from ctr_kd.data.texts import TextAssembly
from ctr_kd.huggingface.convert import InterchangeError, adopt_bert, export_bert, load_bert
from ctr_kd.models.next_segment import NextSegment
from ctr_kd.models.teachers import build_member
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.finetune import finetune
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder, masked_item_accuracy, pretraining_sequences
from tests.ctr_kd.text_worlds import LETTERS, write_texts
from tests.ctr_kd.trainings import job_at, rows_of

# Special tokens are anywhere in a vocab.txt, and letters in no order of ours.
WORDS = ["[PAD]", "z", "y", "[UNK]", *reversed(LETTERS), "[CLS]", "[SEP]", "[MASK]", "x"]
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONFIG = EncoderConfig(width=16, layers=2, heads=2, **CHECKPOINT_LAYOUT)


def write_checkpoint(folder, words=WORDS, kind="BertForPreTraining", positions=64, **shape):
    """A random BERT of ``transformers`` with weights large enough that each of them tells."""
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "max_position_embeddings": positions, "initializer_range": 0.3}
    model = getattr(transformers, kind)(transformers.BertConfig(**{**SHAPE, **sizes, **shape})).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def texts(request, tmp_path_factory):
    return TextAssembly(write_texts(tmp_path_factory.mktemp("texts"), pair=request.param), "teacher")


def adopted(texts, folder, config=CONFIG):
    model = build_encoder(texts, texts.signature(), config).eval()
    return model, adopt_bert(model, folder, texts.words())


def letters(texts, samples, rows):
    """What the rows say, as words of ``transformers``' tokenizer."""
    words = texts.words()
    segments = []
    for segment in (samples.a, samples.b):
        tokens, length = gather(segment, segment.start[rows], segment.end[rows])
        segments.append([[words[t] for t in tokens[row, : length[row], 0]] for row in range(len(rows))])
    return segments


def test_the_next_segment_logit_is_that_of_transformers(texts, folder):
    if not texts.signature().max_length_b:
        pytest.skip("needs pairs")
    model, untrained = adopted(texts, folder)
    samples, rows = texts.samples("test"), np.arange(12)
    first, second = letters(texts, samples, rows)
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    inputs = tokenizer(first, second, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = transformers.BertForPreTraining.from_pretrained(folder).eval()(**inputs).seq_relationship_logits
        ours = NextSegment(model, replace(texts.signature(), outputs=2))(*make_batch(samples, rows))
    assert untrained == () and (theirs[:, 0] - theirs[:, 1]).std() > 0.01
    torch.testing.assert_close(ours, torch.stack([torch.zeros(12), theirs[:, 0] - theirs[:, 1]], dim=1), rtol=0, atol=1e-5)


def test_masked_tokens_are_predicted_between_cls_and_sep_as_transformers_does(texts, folder):
    model, _ = adopted(texts, folder)
    samples, rows = texts.samples("test"), np.arange(12)
    first, _ = letters(texts, samples, rows)
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    asked = [[*words, "[MASK]"] for words in first]
    inputs = tokenizer(asked, is_split_into_words=True, padding=True, return_tensors="pt")
    hidden = inputs["input_ids"] == tokenizer.mask_token_id
    with torch.no_grad():
        theirs = transformers.BertForPreTraining.from_pretrained(folder).eval()(**inputs).prediction_logits[hidden]
        batch = make_batch(samples, rows)
        state = model.history_state(batch.segment_a, batch.segment_a_length).index_select(0, batch.segment_of_row)
        ours = model.all_items(state)
    order = [WORDS.index(word) for word in texts.words()]
    torch.testing.assert_close(ours, theirs[:, order], rtol=0, atol=1e-5)


def test_it_is_fine_tuned_as_one_that_was_pretrained_here(texts, folder, tmp_path):
    model, _ = adopted(texts, folder)
    _, held_out = pretraining_sequences(texts, PretrainConfig(), None, 0)
    before = masked_item_accuracy(model, held_out)["masked_item_loss"]
    config = FinetuneConfig.model_validate({"rate_ratio": 1, "training": {"epochs": 12, "batch_size": 32, "learning_rate": 1e-2}})
    tuned, curve = finetune(model, rows_of(texts), config, job_at(tmp_path / "c.pt"), pretraining_rate=1e-3)
    assert curve.points[-1]["accuracy"] > 0.5  # a letter tells the class
    assert masked_item_accuracy(tuned.pretrained, held_out)["masked_item_loss"] != before


def test_it_is_exported_again_in_our_order_of_words(texts, folder, tmp_path):
    model, _ = adopted(texts, folder)
    export_bert(model, tmp_path / "out", texts.words())
    again = load_bert(tmp_path / "out")
    assert again.vocabulary.tokens == texts.words() and again.model.bert.config.framed
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_folder_of_another_shape_says_what_to_write(texts, tmp_path):
    write_checkpoint(tmp_path, hidden_size=24, num_attention_heads=3, intermediate_size=40, layer_norm_eps=1e-6)
    wanted = "write pretrain.encoder: {width: 24, layers: 2, heads: 3, feed_forward: 40, norm_epsilon: 1e-06}"
    with pytest.raises(InterchangeError, match=wanted):
        adopted(texts, tmp_path)


def test_a_folder_of_too_few_positions(texts, tmp_path):
    write_checkpoint(tmp_path, positions=8)
    with pytest.raises(InterchangeError, match=r"a BERT of 8 positions, and the longest texts take 1\d.*lower tokens.teacher.max_length"):
        adopted(texts, tmp_path)


@pytest.mark.parametrize(("old", "new"), [("t", "tt"), ("q", None)])
def test_words_of_another_vocabulary(texts, tmp_path, old, new):
    words = [word if word != old else new for word in WORDS]
    write_checkpoint(tmp_path, [word for word in words if word is not None])
    with pytest.raises(InterchangeError, match=f"words are not the teacher's {len(texts.words())}, '{old}' for one"):
        adopted(texts, tmp_path)


def test_a_vocabulary_is_needed(texts, tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(InterchangeError, match=r"has no vocab\.txt"):
        adopted(texts, tmp_path)


def test_heads_that_the_folder_lacks_are_named(texts, tmp_path):
    write_checkpoint(tmp_path, kind="BertModel")
    assert adopted(texts, tmp_path)[1] == ("masked_item", "next_segment")


# --- the next-segment head as a teacher --------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["relative", "from_end", "from_start"])
def test_a_bare_pair_is_read_as_pretraining_cut_it(texts, positions):
    """A B [CLS], of which the last state answers; a pair of the longest texts leaves room for its [CLS]."""
    signature = texts.signature()
    if not signature.max_length_b:
        pytest.skip("needs pairs")
    encoder = build_encoder(texts, signature, EncoderConfig(width=16, heads=2, positions=positions)).eval()
    model = build_member(encoder, signature, FinetuneConfig(strategy="next_segment")).eval()
    a, b = torch.tensor([[[7], [8]]], dtype=torch.int32), torch.tensor([[[9]]], dtype=torch.int32)
    nothing = torch.zeros(1, 0, dtype=torch.int32), torch.zeros(1, 0)
    with torch.no_grad():
        logits = model(a, torch.tensor([2]), torch.tensor([0]), b, *nothing)
        tokens, segment = torch.tensor([[[7], [8], [9], [3]]], dtype=torch.int32), torch.tensor([[0, 0, 1, 0]])
        state = encoder.bert(tokens, torch.tensor([4]), segment)[:, 3]
        torch.testing.assert_close(logits, torch.cat([torch.zeros(1, 2), encoder.next_segment(state)], dim=1))
        longest = torch.full((1, signature.max_length, 1), 7, dtype=torch.int32)
        logits = model(longest, torch.tensor([signature.max_length]), torch.tensor([0]), longest, *nothing)
    assert torch.isfinite(logits).all()


def test_it_trains_nothing_and_refuses_several_classes(texts, folder, tmp_path):
    model, _ = adopted(texts, folder)
    config, rows, job = FinetuneConfig(strategy="next_segment"), rows_of(texts), job_at(tmp_path / "c.pt")
    kind = "pairs" if texts.signature().max_length_b else "single texts"
    with pytest.raises(TrainingError, match=f"next_segment says yes or no of pairs, not 3 classes of {kind}"):
        finetune(model, rows, config, job, pretraining_rate=1e-3)
    if kind == "single texts":
        return
    for samples in (rows.train, rows.validation):
        samples.label[:] = samples.label > 0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    two = replace(rows, signature=replace(rows.signature, outputs=2))
    teacher, curve = finetune(model, two, config, job, pretraining_rate=1e-3)
    assert curve.steps == 0 and set(curve.points[0]) == {"step", "accuracy", "log_loss", "score"} and teacher.new_parameters() == []
    assert all(torch.equal(value, before[name]) for name, value in teacher.pretrained.state_dict().items())
    assert predict(teacher, rows.validation).shape == (len(rows.validation), 2)


def test_of_a_click_it_says_whether_the_candidate_continues_the_history(assembly, signature):
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2))
    model = build_member(encoder, signature, FinetuneConfig(strategy="next_segment"))
    logits = predict(model, assembly.samples("test"))
    assert logits.shape[1] == 1 and np.isfinite(logits).all() and logits.std() > 0
