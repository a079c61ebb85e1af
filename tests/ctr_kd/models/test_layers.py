import numpy as np
import pytest
import torch

from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import GIVEN_WIDTH, ContextEncoder, Dropout, GivenVectors, Head, TokenEmbedding, chained, mean_of, scaled_sum_of
from feature_store.special_tokens import PAD, UNKNOWN


def test_a_null_category_embeds_to_zero_and_stays_there():
    """An optional column that is absent is null in every row: it must not add a vector that nothing trained."""
    torch.manual_seed(0)
    signature = Signature(tokens={"item": 7}, categorical={"device": 7, "country": 9}, dense={}, outputs=1, max_length=5)
    encoder = ContextEncoder(signature, 4)
    categorical, dense = torch.tensor([[PAD, 5], [6, PAD]], dtype=torch.int32), torch.zeros(2, 0)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        code = encoder(categorical, dense)  # (rows, 2 * 4)
        assert (code[0, :4] == 0).all() and (code[1, 4:] == 0).all() and (code[0, 4:] != 0).all() and (code[1, :4] != 0).all()
        optimizer.zero_grad()
        code.sum().backward()
        optimizer.step()


def test_the_initial_embeddings_have_the_deviation_that_is_asked_for():
    torch.manual_seed(0)
    table, default = (TokenEmbedding({"item": 2000}, 32, std=std).embeddings()[0].weight for std in (1e-4, None))
    assert abs(table[1:].std().item() / 1e-4 - 1) < 0.05 and abs(default[1:].std().item() / 0.05 - 1) < 0.05
    assert not table[PAD].any()


@pytest.mark.parametrize("hidden", [8, 0])
def test_a_head_answers_in_single_precision_but_for_training(hidden):
    torch.manual_seed(0)
    head = Head(6, hidden, 1, 0.0).eval()
    head.begin_at(torch.tensor([-4.0]))  # half precision has 32 numbers from there to -3
    features, more = torch.randn(500, 4), torch.randn(500, 2)
    joined = torch.cat([features, more], dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        in_eval = [head(joined), head(features, more), head(joined.bfloat16())]
        in_training = [head.train()(joined), head(features, more)]
    head.eval()
    expected = [head(joined), head(features, more), head(joined.bfloat16().float())]
    assert all(torch.equal(one, other) for one, other in zip(in_eval, expected, strict=True))
    assert [logits.dtype for logits in in_training] == [torch.bfloat16] * 2
    assert len(in_training[0].unique()) < 150 and len(in_eval[0].unique()) > 490


def test_a_head_begins_where_it_is_told():
    torch.manual_seed(0)
    head, features = Head(6, 8, 2, 0.0), torch.randn(50, 6)
    before = head(features)
    shift = torch.tensor([-3.0, 1.0]) - head.layers[-1].bias.detach()
    head.begin_at(torch.tensor([-3.0, 1.0]))
    torch.testing.assert_close(head(features), before + shift)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_head_reads_features_in_two_pieces_as_joined(hidden):
    torch.manual_seed(0)
    head = Head(6, hidden, 2, 0.0).double()
    features, more = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 2, dtype=torch.float64)
    of = [features, *head.parameters()]
    logits = head(features, more), head(torch.cat([features, more], dim=1))
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(*(torch.autograd.grad(one.sin().sum(), of) for one in logits))


def test_a_context_in_two_pieces_learns_in_the_first_alone():
    torch.manual_seed(0)
    dense = {"age": [0.0, 1.0, 3.0], "teacher_state_0": [0.0, 1.0], "count": [0.0, 2.0]}
    encoder = ContextEncoder(Signature(tokens={"item": 7}, categorical={"device": 7}, dense=dense, outputs=1, max_length=5), 4)
    categorical, numbers = torch.tensor([[5], [6]], dtype=torch.int32), torch.tensor([[0.5, 0.3, 1.0], [2.0, float("nan"), float("nan")]])
    learned, given = encoder.learned_and_given(categorical, numbers)
    assert torch.equal(torch.cat([learned, given], dim=1), encoder(categorical, numbers))
    assert learned.shape == (2, 4) and learned.requires_grad and not given.requires_grad
    nothing = ContextEncoder(Signature(tokens={"item": 7}, categorical={}, dense={}, outputs=1, max_length=5), 4)
    assert nothing(categorical[:, :0], numbers[:, :0]).shape == (2, 0)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_hides_its_share_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    dropout, x = Dropout(rate), torch.ones(1001, 333, requires_grad=True)
    y = dropout(x)
    hidden = (y == 0).double()
    deviation = (rate * (1 - rate) / x.numel()) ** 0.5
    assert abs(hidden.mean().item() - rate) < 5 * deviation
    for neighbours in (1, 2, 3, 4):  # numbers of one draw are no more alike than others
        both = (hidden.flatten()[neighbours:] * hidden.flatten()[:-neighbours]).mean().item()
        assert abs(both - rate**2) < 5 * (rate**2 * (1 - rate**2) / x.numel()) ** 0.5
    torch.testing.assert_close(y[y != 0].double(), torch.full_like(y[y != 0], 1 / (1 - rate)).double(), rtol=1e-4, atol=0)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # what is hidden learns nothing
    torch.manual_seed(0)
    assert torch.equal(dropout(x), y)
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_of_nothing_and_of_half_precision():
    dropout = Dropout(0.25)
    assert dropout(torch.zeros(0, 3)).shape == (0, 3)
    assert dropout(torch.ones(5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    x = torch.ones(3)
    assert torch.equal(Dropout(0.0)(x), x)


def test_combiners_divide_by_the_number_of_tokens_or_by_its_root():
    vectors = torch.tensor([[[1.0], [2.0], [4.0], [1.0]], [[0.0], [0.0], [0.0], [0.0]]])
    length = torch.tensor([4, 0])
    assert mean_of(vectors, length).tolist() == [[2.0], [0.0]]
    assert scaled_sum_of(vectors, length).tolist() == [[4.0], [0.0]]


def test_a_head_without_hidden_layers_is_linear():
    torch.manual_seed(0)
    head, (one, two) = Head(6, 0, 3, 0.1), torch.randn(2, 50, 6)
    head.begin_at(torch.tensor([-3.0, 1.0, 0.5]))
    assert head(torch.zeros(1, 6)).tolist() == [[-3.0, 1.0, 0.5]]
    torch.testing.assert_close(head(one + two), head(one) + head(two) - head.layers[-1].bias)


def test_token_features_may_have_any_name_and_usual_ones_stay_those_of_their_tables() -> None:
    sizes = {"item": 9, "type": 4, "a.b": 5, "feature 1": 6, "items": 3, "category": 7, "training": 5, "gap": 24}
    table = TokenEmbedding(sizes, 8)
    assert [len(weights.weight) for weights in table.embeddings()] == list(sizes.values())
    assert [name.split(".")[1] for name in table.state_dict()] == [
        *("item", "feature 1", "feature 2", "feature 3", "feature 4", "category", "feature 6", "gap")
    ]
    other = TokenEmbedding(sizes, 8)
    other.load_state_dict(table.state_dict())
    tokens = torch.tensor([[3, 2, 1, 4, 2, 5, 1, 20]])
    assert torch.equal(other(tokens), table(tokens))


def test_the_places_of_one_attribute_share_a_table_whose_vectors_are_summed() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding({"item": 9, "tag": 8, "tag[2]": 8, "tag[3]": 8, "a[2]": 8}, 4)
    first, *places, other = embedding.embeddings()
    assert places[0] is places[1] is places[2] is not first and other is not places[0]
    assert len(list(embedding.parameters())) == 3  # each once
    tokens = torch.tensor([[5, 6, 7, PAD, PAD], [5, 7, 6, PAD, PAD], [5, 6, PAD, PAD, PAD]])
    found = embedding(tokens)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.allclose(found[0], first.weight[5] + places[0].weight[6] + places[0].weight[7])
    again = TokenEmbedding({"item": 9, "tag": 8, "tag[2]": 8, "tag[3]": 8, "a[2]": 8}, 4)
    assert list(embedding.state_dict()) == ["tables.item.weight", "tables.tag.weight", "tables.a[2].weight"]  # whatever places there are
    again.load_state_dict(embedding.state_dict())
    assert torch.equal(again(tokens), found)


VALUES = np.concatenate([np.zeros((5, 3)), [[2.0, 0, 0], [0, -4, 0]]]).astype(np.float32)  # a mean square of 10


def test_given_vectors_are_projected_and_what_has_none_gets_a_trained_one() -> None:
    given = GivenVectors("title", VALUES, 2, std=0.05)
    with torch.no_grad():
        given.projection.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        given.none.copy_(torch.tensor([7.0, 9.0]))
    found = given(torch.tensor([[PAD, UNKNOWN], [5, 6]])) * 10**0.5
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [7 * 10**0.5, 9 * 10**0.5]], [[2.0, 0.0], [0.0, -4.0]]]))
    weight, none = given.weights()
    torch.testing.assert_close(torch.from_numpy(VALUES) @ weight, given(torch.tensor([0, 0, 0, 0, 0, 5, 6])))
    assert none.tolist() == [7.0, 9.0]
    assert sorted(given.state_dict()) == ["none", "projection", "scale"]  # vectors are no weights: another night has other items


def test_a_projection_keeps_its_scale_when_the_vectors_are_others() -> None:
    one, other = GivenVectors("title", VALUES, 2, 0.05), GivenVectors("title", np.concatenate([VALUES * 3, VALUES[5:]]), 2, 0.05)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other(torch.tensor([5])), 3 * one(torch.tensor([5])))
    empty = GivenVectors("title", VALUES[:5], 2, 0.05)  # nobody has a vector
    assert torch.isfinite(empty(torch.tensor([PAD, UNKNOWN]))).all()


def test_tables_of_tokens_and_of_the_context_take_given_vectors() -> None:
    table = TokenEmbedding({"item": 9, "title": 7, "gap": 24}, 2, vectors={"title": VALUES})
    assert [len(one.weight) for one in table.embeddings()] == [9, 24] and [one.name for one in table.given()] == ["title"]
    tokens = torch.tensor([[6, 5, 0], [6, UNKNOWN, 0]], dtype=torch.int32)
    torch.testing.assert_close(table(tokens)[0] - table(tokens)[1], table.given()[0](torch.tensor(5)) - table.given()[0].none)
    signature = Signature(tokens={"item": 7}, categorical={"a": 7, "face": 7}, dense={}, outputs=1, max_length=5, vectors={"face": VALUES})
    encoder = ContextEncoder(signature, 4)
    code = encoder(torch.tensor([[5, 6], [PAD, UNKNOWN]], dtype=torch.int32), torch.zeros(2, 0))
    assert code.shape == (2, encoder.size) == (2, 4 + GIVEN_WIDTH) and not code[1].any()
    assert signature.to_dict()["vectors"] == {"face": 3}


def test_a_chain_is_the_product_of_probabilities_whatever_the_logits():
    click, given = torch.meshgrid(torch.linspace(-12, 12, 25), torch.linspace(-12, 12, 25), indexing="ij")
    logits = torch.stack([click.flatten(), given.flatten()], dim=1)
    found = chained(logits.double())
    torch.testing.assert_close(found[:, 1].sigmoid(), logits.double().sigmoid().prod(1))
    assert torch.equal(found[:, 0], logits[:, 0].double())
    extreme = torch.tensor([[200.0, 200.0], [-200.0, 200.0], [200.0, -200.0], [-200.0, -200.0]], requires_grad=True)
    chained(extreme).sum().backward()
    assert torch.isfinite(chained(extreme)).all() and torch.isfinite(extreme.grad).all()
