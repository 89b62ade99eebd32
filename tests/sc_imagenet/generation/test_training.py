"""What a step of the cascade's training reads and minimises: pairs, views, labels, losses."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.cascade.labels import TrainingPairs, carry_matches, select_candidates
from sc_imagenet.generation.cascade.losses import cascade_losses, pixel_loss, trained_parameters, where_loss
from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.options import STAGES, TrainingOptions, paper_options
from sc_imagenet.generation.cascade.pmps import Matches, PlaceMatches, cell_places
from sc_imagenet.generation.cascade.training_pairs import PairSampler, StepDraws, draw_numbers
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.views import View, draw_view
from sc_imagenet.generation.features import Features
from tests.benchmark.running.cascade_trainings import SMALL, options


@pytest.mark.parametrize("counts", [(10, 10), (9, 7, 5, 3), (30, 4, 4), (2, 2), (3, 2)])
def test_each_image_is_used_at_most_once_and_shifted_partners_are_of_other_classes(counts):
    classes = [number for number, count in enumerate(counts) for _ in range(count)]
    sampler = PairSampler(classes, batch=6, seed=1)
    batches = sampler.epoch(3)
    used = np.concatenate(batches).flatten().tolist()
    assert max(Counter(used).values()) == 1
    for batch in batches:
        of = np.array(classes)[batch]
        assert (of[:, 0] == of[:, 1]).all()
        assert (of[:, 0] != np.roll(of[:, 1], -1)).all()
    evenly = max(counts) // 2 <= sum(count // 2 for count in counts) / 2
    if evenly:
        assert len(used) >= len(classes) * 0.6
    assert all(np.array_equal(a, b) for a, b in zip(batches, sampler.epoch(3)))
    assert len(batches) == 1 or not all(np.array_equal(a, b) for a, b in zip(batches, sampler.epoch(4)))


def test_negatives_need_two_classes():
    with pytest.raises(InputError, match="training needs two"):
        PairSampler([0, 0, 0, 1], batch=4, seed=0)


def test_both_views_of_a_pair_are_mirrored_or_neither():
    numbers = draw_numbers(np.random.default_rng(0), 500, 5)
    assert ((numbers % 2)[:, 0] == (numbers % 2)[:, 1]).all()
    assert set(numbers.flatten().tolist()) == {0, 1, 2, 3, 4}
    assert (draw_numbers(np.random.default_rng(0), 9, 1) == 0).all()


def views_of(features: Features, view: View) -> Views:
    """The features of whole images, said to be of a view."""
    placements = torch.tensor(view.placement()).expand(len(features.tokens), -1)
    return Views(features, torch.ones(len(features.tokens), features.tokens[0, 0].numel()), placements)


def test_labels_are_carried_into_views_exactly():
    """Two cells of whole images, one in each half; the source's view shows the right half, the target's is mirrored."""
    read = Features(torch.ones(1, 2, 4, 4), torch.ones(1, 2))
    whole, right, mirrored = (views_of(read, view) for view in (View(), View(left=0.5), View(mirrored=True)))
    cells = torch.tensor([[7, 4]])  # second row: last and first column
    matches = Matches(cells, cells, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    places = carry_matches(matches, TrainingPairs(whole, whole), right, mirrored)
    assert places.valid.tolist() == [[True, False]]
    assert places.source[0, 0].tolist() == pytest.approx([0.75, 0.375])
    assert places.target[0, 0].tolist() == pytest.approx([0.125, 0.375])
    assert draw_view(0, 5, 2) == draw_view(0, 5, 2) != draw_view(0, 6, 2)


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, "image region pixel"),
        ({"labels_from": "features"}, "pixel"),
        ({"labels_from": "features", "network": {"shared_attention": True}}, "image region pixel"),
        ({"network": {"stages": "region"}}, "image region"),
        ({"network": {"stages": "image"}}, "image"),
        ({"labels_from": "both", "region_weight": 0.0}, "image pixel"),
    ],
)
def test_stages_that_are_trained(changes, trained):
    given = options(**changes)
    stages = STAGES[: given.network.depth]
    assert [stage for stage in stages if given.weight(stage) > 0] == trained.split()


@pytest.mark.parametrize("stages", ["image", "region", "pixel"])
@pytest.mark.parametrize("kind", ["margin", "literal"])
def test_each_depth_has_its_losses_and_gradients(stages, kind):
    given = options(network={**SMALL, "stages": stages}, class_loss=kind, labels_from="both")
    channels = 12
    network = CascadeNetwork(channels, given.network)
    tokens = torch.nn.functional.normalize(torch.rand(3, channels, 6, 6), dim=1)
    read = Features(tokens, tokens.mean((2, 3)))
    whole, others = views_of(read, View()), views_of(read[[1, 2, 0]], View())
    pairs = TrainingPairs(whole, others, between=whole, views=(whole, views_of(others.features, View(left=0.2))))
    losses = cascade_losses(network, pairs, given)
    assert list(losses) == ["image", "region", "pixel"][: len(losses)]
    assert len(losses) == network.options.depth
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    background = Views(read, torch.zeros(3, 36), whole.placements)
    nothing = TrainingPairs(background, background)
    assert not select_candidates(network, nothing, given).valid.any()
    assert all(loss.isfinite() for loss in cascade_losses(network, nothing, given).values())


@pytest.mark.parametrize(("columns", "closes"), [(0, True), (1, True), (3, False)])
def test_candidates_lie_on_closed_loops(columns, closes):
    """Every cell matches its own; by way of a third image it comes out some columns beside it."""
    cells = torch.eye(40)
    beside = cells.view(8, 5, 40).roll(columns, 1).flatten(0, 1)  # what the third image's cells look like in the target
    looks = torch.cat((cells, 0 * cells), 1), torch.cat((0.5 * cells, 0.9 * beside), 1), torch.cat((cells, cells), 1)
    source, third, target = (
        views_of(Features(F.normalize(each, dim=1).T.reshape(1, 80, 8, 5), torch.ones(1, 80)), View()) for each in looks
    )
    given = options(network={**SMALL, "hough": False}, candidates=20)
    network = CascadeNetwork(80, given.network)
    found = select_candidates(network, TrainingPairs(source, target, between=third), given)
    assert bool(found.valid.any()) == closes
    anyway = select_candidates(network, TrainingPairs(source, target), given)
    assert torch.equal(anyway.source, anyway.target)
    assert anyway.valid.all()


def test_the_third_image_is_another_of_the_class():
    classes = [0] * 4 + [1] * 2
    draws = StepDraws(classes, options(batch=4))
    for step in range(8):
        draw = draws.at(step)
        for (source, _), (target, _), (third, number) in zip(draw.source, draw.target, draw.between):
            assert (classes[third], number) == (classes[source], 0)
            assert third not in (source, target) or classes[source] == 1
            assert third != target


def test_photographs_kept_from_training_are_in_no_pair_and_no_loop():
    classes = [0] * 9 + [1] * 9 + [2] * 5
    draws = StepDraws(classes, options(batch=6))
    kept = {image for triple in draws.held_out for image in triple}
    assert [{classes[image] for image in triple} for triple in draws.held_out] == [{0}, {1}]  # of 5 none can be spared
    assert len(kept) == 6
    for step in range(12):
        draw = draws.at(step)
        assert not kept & {image for image, _ in (*draw.source, *draw.target, *draw.between)}
    assert StepDraws(classes, options(batch=6, held_out=0)).held_out == []


@pytest.mark.parametrize("aggregation_form", ["multiplied", "added"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_begins_as_the_features_alone(stage, aggregation_form):
    """At 0.88 of their cosines, the two gates being open alike; the aggregation that learns gives the same."""
    network = CascadeNetwork(12, options(network={**SMALL, "aggregation_form": aggregation_form}).network)
    tokens = F.normalize(torch.rand(2, 12, 5, 5), dim=1)
    read = Features(tokens, tokens.mean((2, 3)))
    gate = torch.tensor(2.0).sigmoid()
    expected = gate**2 * tokens.flatten(2).transpose(1, 2) @ tokens[[1, 0]].flatten(2)
    torch.testing.assert_close(network.volume(stage, read, read[[1, 0]]), expected)
    with torch.no_grad():
        torch.testing.assert_close(network.volume(stage, read, read[[1, 0]]), expected)


def test_a_multiplied_aggregation_writes_nothing_where_features_match_nothing():
    given = options(network={**SMALL, "token_projection": False, "aggregation_form": "multiplied"})
    network = CascadeNetwork(12, given.network)
    aggregation = network.stages["pixel"].aggregation
    with torch.no_grad():
        for parameter in aggregation.parameters():
            parameter.normal_()
    volume = torch.rand(2, 16, 16)
    volume[:, 3] = 0
    changed = aggregation(volume, (4, 4), (4, 4))
    assert (changed[:, 3] == 0).all()
    assert ((changed >= 0) & (changed <= 2 * volume)).all()
    assert not torch.allclose(changed, volume, atol=0.1)


def test_the_class_loss_changes_the_projection_of_single_tokens_alone():
    given = options()
    network = CascadeNetwork(12, given.network)
    changed = trained_parameters(network, given, ["image"])
    assert [each.shape for each in changed] == [(12, 12)]
    assert changed[0] is network.stages["image"].attention.layers[0].projection.weight
    whole = options(image_trains="all")
    assert len(trained_parameters(network, whole, ["image"])) == len(list(network.stages["image"].parameters()))


def test_where_in_a_window_by_hand():
    """Of 4 cells and 4 of another class the right one has probability 1/8, both ways, if all are alike."""
    flat = torch.zeros(2, 4, 4)
    place = torch.tensor([2, 1]), torch.tensor([1, -1])  # the second has no place to learn
    both = torch.tensor([True, True])
    assert where_loss(flat, flat, flat, *place, both, (2, 2), 0.1, sigma=0.05).item() == pytest.approx(math.log(8))
    sure = flat.clone()
    sure[0, 2, 1] = 5.0
    assert where_loss(sure, flat, flat, *place, both, (2, 2), 0.1, sigma=0.05).item() == pytest.approx(0, abs=1e-6)
    mistaken = where_loss(sure, 9 * torch.ones(2, 4, 4), flat, *place, both, (2, 2), 0.1, sigma=0.05)
    assert mistaken.item() == pytest.approx((9 - 5) / 0.1 / 2, rel=0.05)  # the other class matches better, one way
    assert where_loss(flat, flat, flat, *place, ~both, (2, 2), 0.1).item() == 0


def test_the_binary_loss_lifts_the_match_among_a_thousand_cells():
    """The same projection of all tokens, by the paper's optimiser; its cell rises over the others, which stay."""
    draw = torch.Generator().manual_seed(0)
    tokens, others = (F.normalize(torch.randn(1, 1024, 16, generator=draw), dim=2) for _ in range(2))
    weight = torch.eye(16, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    cells = torch.tensor([[5, 400, 900]])
    places = cell_places(cells, (32, 32))
    matches = PlaceMatches(places, places.flip(1), torch.ones(1, 3, dtype=torch.bool))
    lifted = []
    for _ in range(30):
        volume = tokens @ weight @ others.transpose(1, 2)
        rows = volume[0, cells[0]].detach()
        lifted.append(rows.gather(1, cells.flip(1).T).mean() - rows.mean())
        optimiser.zero_grad()
        pixel_loss(volume / 0.1, matches, (32, 32), (32, 32), 0.3, "binary").backward()
        optimiser.step()
    assert lifted[-1] > lifted[0] + 0.3


@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_a_volume_that_shows_the_matches_has_the_smaller_pixel_loss(kind):
    cells = torch.tensor([[0, 5, 15], [3, 9, 0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    places = torch.stack((cells % 4 + 0.5, cells // 4 + 0.5), -1) / 4
    matches = PlaceMatches(places, places.flip(1), valid)
    logits = torch.full((2, 16, 16), -6.0)
    logits[torch.arange(2)[:, None], cells, cells.flip(1)] = 6.0
    right = pixel_loss(logits, matches, (4, 4), (4, 4), 0.2, kind)
    wrong = pixel_loss(logits.roll(1, 2), matches, (4, 4), (4, 4), 0.2, kind)
    assert 0 <= right < wrong / 3
    none = PlaceMatches(places, places, torch.zeros_like(valid))
    assert pixel_loss(logits, none, (4, 4), (4, 4), 0.2, kind) == 0


def test_options_are_told_apart_and_the_papers_are_stated():
    paper = paper_options()
    assert (paper.backbone, paper.size, paper.optimiser, paper.lr, paper.momentum, paper.batch) == (
        "vit_base_patch16_224",
        512,
        "sgd",
        3e-5,
        0.9,
        32,
    )
    assert TrainingOptions.from_dict(paper.as_dict()) == paper
    with pytest.raises(InputError, match=r"unknown option 'epoch'\. Did you mean 'epochs'"):
        TrainingOptions.from_dict({"epoch": 3})


def test_a_fixed_pattern_does_not_tell_where_in_a_window_a_match_lies():
    """Matches lie in the middle of the windows that select; where lies anywhere in those that train."""
    given = options(network={**SMALL, "region_fold": 5, "saliency": False}, loop_radius=0.0)
    network = CascadeNetwork(12, given.network)
    draw = torch.Generator().manual_seed(0)
    tokens = F.normalize(1 + 0.3 * torch.randn(4, 12, 9, 9, generator=draw), dim=1)  # that match nearly alike
    read = Features(tokens, tokens.mean((2, 3)))
    pairs = TrainingPairs(views_of(read, View()), views_of(read, View()))
    torch.manual_seed(0)
    by_features = cascade_losses(network, pairs, given, ["region"])["region"].item()
    middle = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0])
    pattern = 0.3 * torch.einsum("a,b,c,d->abcd", middle, middle, middle, middle)
    with torch.no_grad():
        network.stage("region").aggregation.outward.bias += pattern.flatten()
    torch.manual_seed(0)
    assert cascade_losses(network, pairs, given, ["region"])["region"].item() > by_features
