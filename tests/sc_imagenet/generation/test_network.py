"""The cascaded network: what it gives untrained, what PMPS selects, where windows lie, what the losses are."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.cascade.losses import class_loss, pixel_loss, pooled_score
from sc_imagenet.generation.cascade.network import MVAM, CascadeNetwork, load_network
from sc_imagenet.generation.cascade.options import STAGES, NetworkOptions
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    PlaceMatches,
    cell_places,
    cut_windows,
    hough_scores,
    match_votes,
    select_one_to_one,
    suppress_near,
    window_cells,
    window_starts,
)
from sc_imagenet.generation.features import FeatureReader, Features
from sc_imagenet.geometry.correlation import inner_product

CHANNELS = 12
SMALL = NetworkOptions(attention_width=8, heads=2, volume_width=8, volume_heads=2, fold=2)


def features(count: int, side: int = 6, seed: int = 0) -> Features:
    draw = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(count, CHANNELS, side, side, generator=draw), dim=1)
    return Features(tokens, tokens.mean((2, 3)))


def test_untrained_mvam_returns_the_backbones_features():
    source, target = features(2), features(2, 5, seed=1)
    module = MVAM(CHANNELS, SMALL, fold=2)
    ours, theirs, *_ = module.attention(source, target)
    assert torch.equal(ours, source.tokens.flatten(2).transpose(1, 2))
    assert torch.equal(theirs, target.tokens.flatten(2).transpose(1, 2))
    gate = torch.sigmoid(torch.tensor(2.0))
    cosines = inner_product(source.tokens, target.tokens)
    torch.testing.assert_close(module(source, target), cosines * gate**2)


def test_without_gating_the_volume_a_gate_of_the_last_layer_changes_nothing():
    source, target = features(1), features(1, seed=1)
    literal = MVAM(CHANNELS, replace(SMALL, gate_volume=False, aggregation=False), fold=2)
    with torch.no_grad():
        literal.attention.gate_scale.fill_(5.0)
    torch.testing.assert_close(literal(source, target), inner_product(source.tokens, target.tokens))


@pytest.mark.parametrize(("sides", "fold"), [((6, 6), 2), ((5, 7), 4), ((5, 5), 5), ((9, 3), 1)])
def test_aggregation_takes_sizes_that_nothing_divides(sides, fold):
    module = MVAM(CHANNELS, SMALL, fold)
    source, target = features(1, sides[0]), features(1, sides[1], seed=1)
    with torch.no_grad():
        module.aggregation.outward.weight.normal_()
    volume = module(source, target)
    assert volume.shape == (1, sides[0] ** 2, sides[1] ** 2)
    assert volume.isfinite().all()


def test_a_network_that_was_read_from_can_be_trained():
    """What the window attention keeps between calls was made under inference_mode here."""
    module, source, target = MVAM(CHANNELS, SMALL, fold=1), features(1, 7), features(1, 7, seed=1)
    with torch.inference_mode():
        module(source, target)
    module(source, target).sum().backward()
    assert module.aggregation.outward.weight.grad.isfinite().all()


def test_stages_have_their_own_weights_unless_shared():
    own = CascadeNetwork(CHANNELS, SMALL)
    shared = CascadeNetwork(CHANNELS, replace(SMALL, shared_attention=True))
    assert own.stages["image"].attention is not own.stages["pixel"].attention
    assert shared.stages["image"].attention is shared.stages["pixel"].attention
    assert shared.stages["image"].aggregation is not shared.stages["pixel"].aggregation
    assert list(CascadeNetwork(CHANNELS, replace(SMALL, stages="region")).stages) == ["image", "region"]


def test_greedy_selection_is_one_to_one_and_equals_a_plain_loop():
    draw = torch.Generator().manual_seed(3)
    scores = torch.rand(4, 30, 25, generator=draw)
    allowed = torch.rand(4, 30, 25, generator=draw) > 0.5
    found = select_one_to_one(scores, 20, allowed)
    for pair in range(4):
        left = scores[pair].masked_fill(~allowed[pair], -math.inf)
        for place in range(20):
            row, column = divmod(int(left.argmax()), 25)
            assert (found.source[pair, place], found.target[pair, place]) == (row, column)
            assert found.scores[pair, place] == scores[pair, row, column]
            left[row], left[:, column] = -math.inf, -math.inf
        assert len(set(found.source[pair].tolist())) == len(set(found.target[pair].tolist())) == 20


def test_selection_stops_where_nothing_is_allowed():
    allowed = torch.zeros(1, 4, 4, dtype=torch.bool)
    allowed[0, 2, 3] = True
    found = select_one_to_one(torch.rand(1, 4, 4), 3, allowed)
    assert found.valid.tolist() == [[True, False, False]]
    assert (found.source[0, 0], found.target[0, 0]) == (2, 3)


def test_hough_scores_prefer_the_offset_that_most_matches_share():
    shifted = torch.zeros(1, 64, 64)
    cells = torch.arange(64).view(8, 8)
    shifted[0, cells[:, :-2].flatten(), cells[:, 2:].flatten()] = 1.0  # two columns to the right
    shifted[0, 0, 63] = 1.0  # one match that agrees with none
    for votes in ("relu", "mutual", "softmax"):
        given = NetworkOptions(votes=votes)
        scores = hough_scores(match_votes(shifted, given), (8, 8), (8, 8), given)
        assert scores.max() == 1
        assert scores[0, 0, 2] > 10 * scores[0, 0, 63]


def test_background_votes_count_a_fifth():
    volume = torch.eye(16)[None]
    literal = NetworkOptions(votes="relu", hough_scales=(1.0,), hough_length=1)
    one_cell = torch.zeros(1, 16).index_fill(1, torch.tensor([5]), 1.0)
    volume[0, 0, 15] = 0.5
    plain = hough_scores(match_votes(volume, literal), (4, 4), (4, 4), literal)
    weighted = hough_scores(match_votes(volume, literal), (4, 4), (4, 4), literal, one_cell, one_cell)
    assert plain[0, 0, 15].item() == pytest.approx(0.25 / 16)
    assert weighted[0, 0, 15].item() == pytest.approx(0.25 * 0.04 / (1 + 15 * 0.04))


def test_region_windows_lie_inside_and_around_their_cell():
    grid = (7, 9)
    cells = torch.arange(63)
    starts = window_starts(cells, grid, 5)
    assert (starts >= 0).all()
    assert (starts[:, 0] <= 2).all()
    assert (starts[:, 1] <= 4).all()
    covered = window_cells(starts, grid, 5)
    assert (covered == cells[:, None]).any(1).all()
    tokens = torch.arange(63.0).view(1, 1, 7, 9)
    cut = cut_windows(tokens, starts[None], 5)
    assert torch.equal(cut.flatten(3)[0, :, 0].long(), covered)


def test_suppression_keeps_the_best_of_near_pairs():
    def cell(row: int, column: int) -> int:
        return row * 10 + column

    matches = Matches(
        torch.tensor([[cell(2, 2), cell(2, 3), cell(2, 3), cell(8, 8)]]),
        torch.tensor([[cell(5, 5), cell(5, 6), cell(9, 0), cell(1, 1)]]),
        torch.tensor([[0.5, 0.9, 0.4, 0.3]]),
        torch.tensor([[True, True, True, False]]),
    )
    kept = suppress_near(matches, (10, 10), (10, 10), keep=3, radius=1.5)
    assert kept.valid.tolist() == [[True, True, False]]
    assert kept.source[0, :2].tolist() == [cell(2, 3), cell(2, 3)]
    assert kept.target[0, :2].tolist() == [cell(5, 6), cell(9, 0)]


def test_class_losses_by_hand():
    ours, theirs = torch.tensor([0.9, 0.4]), torch.tensor([0.5, 0.6])
    assert class_loss(ours, theirs, "literal", 0.2).item() == pytest.approx(((0.5 - 0.9) + (0.6 - 0.4)) / 2)
    assert class_loss(ours, theirs, "margin", 0.2).item() == pytest.approx((0 + 0.4) / 2)


def test_pooled_scores_by_hand():
    volume = torch.tensor([[[0.8, 0.1], [0.2, 0.3]]])
    assert pooled_score(volume, "literal", 1.0).item() == pytest.approx((0.55 + 0.55) / 2)
    weighted = pooled_score(volume, "literal", 1.0, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert weighted.item() == pytest.approx((0.8 + 0.3) / 2)
    sure = pooled_score(torch.eye(3)[None] * 9, "margin", 0.05)
    assert sure.item() == pytest.approx(1.0)


def test_pixel_loss_by_hand():
    """A Gaussian of no width makes it the cross entropy of the true cell, here 1 of 4, both ways."""
    cells = torch.tensor([[2, 0]]), torch.tensor([[1, 0]])
    places = [cell_places(each, (2, 2)) for each in cells]
    matches = PlaceMatches(*places, torch.tensor([[True, False]]))
    flat = pixel_loss(torch.zeros(1, 4, 4), matches, (2, 2), (2, 2), sigma=0.05)
    assert flat.item() == pytest.approx(math.log(4))
    sure = torch.zeros(1, 4, 4)
    sure[0, 2, 1] = 50.0
    assert pixel_loss(sure, matches, (2, 2), (2, 2), sigma=0.05).item() == pytest.approx(0, abs=1e-6)
    none = PlaceMatches(*places, torch.zeros(1, 2, dtype=torch.bool))
    assert pixel_loss(sure, none, (2, 2), (2, 2), sigma=1.0).item() == 0


@pytest.mark.parametrize("stage", ["image", "region", "pixel"])
def test_every_stage_of_an_untrained_network_finds_an_image_in_itself(stage):
    network = CascadeNetwork(CHANNELS, SMALL).eval()
    both = features(2)
    with torch.no_grad():
        scores = network.scores(both, both, stage=stage)
        places, confidence = network.match(both, both)
    assert torch.equal(scores.argmax(2), torch.arange(36).expand(2, -1))
    true = torch.stack((torch.arange(36) % 6, torch.arange(36) // 6), -1).float()
    assert (places - true).abs().max() < 0.5
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_a_folder_of_another_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="does not hold a trained cascade"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_features_have_norm_one_and_a_global_token(name):
    reader = FeatureReader(name, size=64, pretrained=False)
    read = reader(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(read.tokens.square().sum(1), torch.ones(2, *read.grid))
    assert read.global_token.shape == (2, reader.channels)
    assert not reader.train().backbone.training


def test_standardised_tokens_say_what_is_special_about_a_cell():
    """Raw ones are much alike wherever they lie, as channels that are high everywhere make them."""
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    alike = {}
    for standardise in (False, True):
        reader = FeatureReader(size=160, pooling=1.0, standardise=standardise)
        tokens = reader(image).tokens.flatten(2)[0]
        alike[standardise] = (tokens.T @ tokens).mean().item()
    assert alike[False] > 0.3
    assert abs(alike[True]) < 0.05


def test_pooled_cells_are_fewer_and_have_norm_one():
    read = FeatureReader(size=160, pretrained=False)(torch.randn(1, 3, 160, 160))
    assert read.grid == (7, 7)  # of 10 x 10 cells, by 1.4
    torch.testing.assert_close(read.tokens.square().sum(1), torch.ones(1, 7, 7))
    with pytest.raises(InputError, match=r"pooling = 0\.5 must lie between 1 and 4096"):
        FeatureReader(pooling=0.5, pretrained=False)


def test_wrong_options_are_one_line():
    with pytest.raises(InputError, match=r"unknown stage 'regions'\. Did you mean 'region'"):
        NetworkOptions(stages="regions")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hough_length = 4 must be odd"):
        NetworkOptions(hough_length=4)


def test_a_network_that_an_earlier_version_wrote_adds_to_its_volume_as_it_did():
    today = asdict(NetworkOptions())
    before = {name: value for name, value in today.items() if name not in ("aggregation_form", "temperatures")}
    assert NetworkOptions(**before) == NetworkOptions(aggregation_form="added")
    assert "outward.bias" in dict(
        CascadeNetwork(8, NetworkOptions(**before)).stages["pixel"].aggregation.named_parameters()
    )


def test_the_pixel_stage_is_read_with_the_image_stage():
    """By the mean of both volumes; the image stage alone, and the pixel stage where stages are not joined, as ever."""
    source, target = features(2), features(2, seed=1)
    torch.manual_seed(0)
    network = CascadeNetwork(CHANNELS, SMALL)
    with torch.no_grad():
        for stage in ("image", "pixel"):
            network.stage(stage).attention.layers[0].projection.weight.normal_(std=0.3)
    image, pixel = (network.volume(stage, source, target) for stage in ("image", "pixel"))
    for stage, joined, volume in (
        ("pixel", True, (image + pixel) / 2),
        ("pixel", False, pixel),
        ("image", True, image),
    ):
        network.options = replace(SMALL, joined=joined)
        wanted = network.reweighted(volume, source, target)
        torch.testing.assert_close(network.scores(source, target, stage=stage), wanted)


def test_scores_at_several_temperatures_are_those_of_each():
    source, target = features(2), features(2, seed=1)
    network = CascadeNetwork(CHANNELS, SMALL)
    for stage in STAGES:
        several = list(network.scores_at((0.05, 0.2), stage, source, target))
        for temperature, scores in zip((0.05, 0.2), several):
            temperatures = tuple(temperature if each == stage else SMALL.temperature for each in STAGES)
            network.options = replace(SMALL, temperatures=temperatures)
            torch.testing.assert_close(network.scores(source, target, stage=stage), scores)
        network.options = SMALL
