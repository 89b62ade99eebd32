"""TransforMatcher on small grids: its attention, its reading of keypoints, its two branches."""

from __future__ import annotations

import pytest
import torch

from baselines.checkpoints import load_checkpoint, load_weights
from baselines.registry import find_recipe
from baselines.transformatcher import (
    FREQUENCIES,
    HEAD,
    HEADS,
    REACH,
    REACH_IN_TRAINING,
    AdditiveAttention,
    TransforMatcher,
    from_published,
    rotary_turns,
)
from benchmark.running.loop import parameter_groups
from sc_imagenet.core.errors import InputError
from tests.parity.references import published_shapes


def small(**changes) -> TransforMatcher:
    torch.manual_seed(0)
    return TransforMatcher(**{"backbone": "resnet10t", "pretrained": False, "size": 80, **changes}).eval()


def images(count: int = 2, side: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=generator), torch.randn(
        count, 3, side, side, generator=generator
    )


def batch(count: int = 2, points: int = 5, side: int = 80) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    source, target = (torch.rand(count, points, 2, generator=generator) * side for _ in range(2))
    return {"source_points": source, "target_points": target, "valid": torch.ones(count, points, dtype=torch.bool)}


def test_attention_is_that_of_queries_keys_and_values_written_out():
    """Section 3.3 token by token: what the composed matrices leave out is computed here."""
    torch.manual_seed(0)
    attention, tokens, turns = AdditiveAttention().double(), torch.randn(2, 50, 16).double(), rotary_turns(50).double()
    query, key, value = attention.qkv(tokens).unflatten(-1, (3, HEADS, HEAD)).unbind(2)  # (B, T, heads, 4)
    cosine, sine = (part.T.repeat_interleave(2, 1)[:, None] for part in (turns[:2], turns[2:]))

    def rotated(x):
        quarter = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
        return x * cosine + quarter * sine

    def pairs(x):
        return x.unflatten(-1, (2, 2)).sum(-1)

    scale = HEAD**-0.5
    global_query = ((attention.query_score(query) * scale).softmax(1) * rotated(query)).sum(1, keepdim=True)
    weights = (attention.key_score(pairs(key * global_query)) * scale).softmax(1)
    global_key = (weights * rotated(key)).sum(1, keepdim=True)
    expected = attention.proj((attention.mix(pairs(value * global_key)) + query).flatten(2))
    torch.testing.assert_close(attention(tokens, turns), expected)


@pytest.mark.parametrize(
    "changes", [{}, {"layers": [4]}, {"layers": [1, 3, 4], "size": 48}, {"backbone": "convnext_atto"}]
)
def test_any_layers_and_grid_can_be_trained(changes):
    model = small(**changes)
    refined = model(*images(side=model.size))
    cells = model.grid**2
    assert refined.shape == (2, cells, cells)
    model.loss(refined, batch(side=model.size)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name


def test_a_sharp_start_carries_points_to_the_best_correlation():
    """The correlation is highest two cells to the right."""
    model = small(size=160, sharpness=100.0)
    grid = model.grid
    cells = torch.stack((torch.arange(grid).repeat(grid), torch.arange(grid).repeat_interleave(grid)), 1)
    correlation = torch.exp(-torch.cdist(cells + torch.tensor([2.0, 0.0]), cells.float()).square() / 8)
    refined = model.match2match(correlation.expand(1, len(model.backbone.source.layers), -1, -1))
    points = torch.tensor([[[40.0, 40.0], [80.0, 100.0]]])
    moved = model.transfer(refined, points) - points
    torch.testing.assert_close(moved, torch.tensor([2 * 160 / (grid - 1), 0.0]).expand(1, 2, 2), atol=3.0, rtol=0)


@pytest.mark.parametrize("reach", [REACH, REACH_IN_TRAINING])
def test_cells_beyond_reach_have_no_say(reach):
    """A point follows the same cells whether only those near it are read or all of them."""
    model = small(size=160)
    side, refined = 2 * model.grid, torch.randn(1, model.grid**2, model.grid**2) * 20
    points = torch.rand(1, 30, 2) * 2.2 - 1.1
    along = torch.linspace(-1, 1, side)
    cells = torch.stack((along.repeat(side), along.repeat_interleave(side)), 1)[None]
    distance = ((cells[:, None] - points[:, :, None]).square().sum(-1) + 1e-5).sqrt()
    weights = (reach * 2 / (side - 1) - distance).relu()
    expected = (weights / (weights.sum(-1, keepdim=True) + 1e-5)) @ model.where_cells_go(refined, cells)
    torch.testing.assert_close(model.transfer_normalised(refined, points, reach), expected, atol=1e-4, rtol=0)


def test_branches_start_equal_and_both_are_the_backbone_of_the_recipe():
    model = small()
    for ours, theirs in zip(model.backbone.source(images()[0]), model.backbone.target(images()[0])):
        assert torch.equal(ours, theirs)
    groups = parameter_groups(model, find_recipe("transformatcher", "spair-71k"))
    of_backbone = {id(p) for g in groups if g["lr"] == 1e-5 for p in g["params"]}
    assert {id(model.backbone.source.net.conv1[0].weight), id(model.backbone.target.net.conv1[0].weight)} <= of_backbone
    assert {id(p) for p in model.match2match.parameters()}.isdisjoint(of_backbone)


def test_padding_and_pairs_without_points_do_not_count():
    model = small()
    given = batch()
    refined = model(*images())
    padded = {key: torch.cat((value, torch.zeros_like(value[:, :2])), 1) for key, value in given.items()}
    padded["source_points"][:, 5:] = torch.nan
    padded["target_points"][:, 5:] = torch.nan
    torch.testing.assert_close(model.loss(refined, padded), model.loss(refined, given))
    for empty in (0, 5):
        none = {**batch(points=empty), "valid": torch.zeros(2, empty, dtype=torch.bool)}
        loss = model.loss(refined, none)
        (gradient,) = torch.autograd.grad(loss, refined, retain_graph=True)
        assert loss == 0
        assert not gradient.any()


@pytest.fixture(scope="module")
def published():
    """Two values a tensor: the source's half 1, the target's 2; the frequencies as they are."""
    state = {}
    for key, shape in published_shapes("transformatcher").items():
        value = torch.ones(shape[:1] + [1] * (len(shape) - 1)) if shape else torch.tensor(3)
        if key.startswith("backbone.") and len(shape) and "fc" not in key:
            value[shape[0] // 2 :] = 2
        state[key] = value.expand(shape)
        if key.endswith("freqs"):
            state[key] = torch.pi * torch.tensor(FREQUENCIES)
    return state


def test_the_published_checkpoint_of_727_keys_is_split_into_two_networks(tmp_path, published):
    assert len(published) == 727
    torch.save(
        {key: value.to(torch.bfloat16) for key, value in published.items() if "freqs" not in key}, tmp_path / "w.pth"
    )
    model, _ = load_checkpoint("transformatcher", tmp_path / "w.pth")
    assert (model.size, model.grid) == (240, 15)
    assert sum(parameter.numel() for parameter in model.parameters()) == 87_885_413
    assert sum(p.numel() for p in model.match2match.parameters() if p.requires_grad) == 26_093
    assert model.backbone.source.net.layer4[2].bn3.running_mean.unique().tolist() == [1]
    assert model.backbone.target.net.layer4[2].bn3.running_mean.unique().tolist() == [2]
    assert from_published(published).keys() == dict.fromkeys(model.state_dict(), 0).keys()
    less = {key: value for key, value in published.items() if "posenc" not in key}
    torch.save({key: value.to(torch.bfloat16) for key, value in less.items()}, tmp_path / "less.pth")
    load_weights(model, tmp_path / "less.pth")


def test_other_frequencies_and_odd_channels_are_one_line(published):
    key = "match2match.trans_nc.0.0.fn.pos_emb.freqs"
    with pytest.raises(InputError, match="another rotary embedding"):
        from_published({**published, key: torch.ones(2)})
    with pytest.raises(InputError, match="3 channels, not those of two networks"):
        from_published({**published, "backbone.bn1.bias": torch.ones(3)})
