"""DHPF on small grids: its gates, its losses, its transfer; parity with the published code is in tests/parity."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from baselines.checkpoints import load_checkpoint, load_weights
from baselines.dhpf import DHPF, Hyperimages, arguments_of, key_of
from baselines.dhpf_weak import WeakDHPF
from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry.hough import differences_at
from tests.parity.references import published_shapes

SMALL = {"backbone": "resnet10t", "pretrained": False, "size": 64, "stride": 4}


def small(kind: type[DHPF] = DHPF, **changes) -> DHPF:
    torch.manual_seed(0)
    return kind(**{**SMALL, **changes}).eval()


def batch(count: int = 2, points: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = [torch.randn(count, 3, 64, 64, generator=generator) for _ in range(2)]
    source, target = (torch.rand(count, points, 2, generator=generator) * 64 for _ in range(2))
    return {
        "source": images[0],
        "target": images[1],
        "source_points": source,
        "target_points": target,
        "target_bbox": torch.tensor([[0.0, 0.0, 64.0, 32.0]]).expand(count, 4),
        "valid": torch.ones(count, points, dtype=torch.bool),
        "category": torch.arange(count),
    }


def run(model: DHPF, given: dict[str, torch.Tensor]) -> Hyperimages:
    return model(given["source"], given["target"])


def choosing(model: DHPF, gates: list[list[float]]) -> DHPF:
    """The model with its gates held as given, gradients flowing as before."""
    chosen = torch.tensor(gates)
    choose = model.choose
    model.choose = lambda maps: (own := choose(maps)) - own.detach() + chosen
    return model


@pytest.mark.parametrize("gates", [[[1, 1, 1, 1, 1]] * 2, [[0, 1, 0, 1, 0], [1, 0, 0, 0, 1]], [[0, 0, 0, 0, 0]] * 2])
def test_appearance_is_that_of_the_chosen_layers_up_sampled_and_stacked(gates):
    model, given = choosing(small(), gates), batch()
    with torch.no_grad():
        output = run(model, given)
        maps = model.encode(torch.cat((given["source"], given["target"])))
    for pair, chosen in enumerate(gates):
        layers = [layer for layer, is_open in enumerate(chosen) if is_open] or [0]
        reduced = [model.reductions[layer](maps[layer]) for layer in layers]
        source, target = (
            torch.cat(
                [
                    torch.nn.functional.interpolate(r[role], (16, 16), mode="bilinear", align_corners=True)
                    for r in reduced
                ],
                1,
            )[pair].flatten(1)
            for role in (0, 1)
        )
        cosine = source.T @ target / (source.norm(dim=0)[:, None] * target.norm(dim=0) + 0.001)
        torch.testing.assert_close(output.appearance[pair], cosine.relu() ** 2, atol=1e-5, rtol=1e-4)


def test_the_rows_that_keypoints_read_are_those_of_the_whole():
    model = small()
    with torch.no_grad():
        output = run(model, batch())
        cells = torch.tensor([0, 17, 255])
        for pair in range(2):
            rows = model.appearance_of(output, pair, cells)
            torch.testing.assert_close(rows, output.appearance[pair, cells], atol=1e-6, rtol=1e-4)


def test_gates_are_random_while_training_and_their_gradient_is_that_of_the_probability():
    model, given = small(), batch()
    maps = model.encode(torch.cat((given["source"], given["target"])))
    assert torch.equal(model.choose(maps), model.choose(maps))
    model.train()
    drawn = {tuple(model.choose(maps).flatten().tolist()) for _ in range(8)}
    assert len(drawn) > 1
    assert {value for gates in drawn for value in gates} <= {0.0, 1.0}
    model.choose(maps).sum().backward()
    assert all(gate[3].weight.grad.abs().sum() > 0 for gate in model.gates)


def test_an_easy_keypoint_counts_by_its_squared_distance():
    model, given = small(), batch(1, 1)
    with torch.no_grad():
        output = run(model, given)
        predicted = model.transfer(output, given["source_points"])

        def cross_entropy(shift: float) -> float:
            given["target_points"] = predicted + torch.tensor([shift, 0.0])
            return (model.loss(output, given) - model.selection_loss(output)).item()

        near, nearer = cross_entropy(0.5), cross_entropy(0.25)
    assert model.tolerance(given).item() == pytest.approx(6.4)
    assert near / nearer == pytest.approx(4, rel=0.01)  # the same cell is nearest


def test_what_is_easy_depends_on_the_threshold():
    given = batch()
    assert small().tolerance({**given, "target_bbox": given["target_bbox"] / 2})[0].item() == pytest.approx(3.2)
    assert small().tolerance({**given, "target_bbox": given["target_bbox"] * torch.nan})[0].item() == pytest.approx(6.4)
    halved = {**given, "target_bbox": given["target_bbox"] / 2}
    assert small(threshold="img").tolerance(halved)[0].item() == pytest.approx(6.4)


def test_selection_loss_is_zero_where_half_of_the_pairs_choose_each_layer():
    model = choosing(small(), [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]])
    assert model.selection_loss(run(model, batch())).item() == 0
    model.rate = 1.0
    assert model.selection_loss(run(model, batch())).item() == pytest.approx(5 * 0.25)


@pytest.mark.parametrize("kind", [DHPF, WeakDHPF])
def test_every_learnt_weight_has_a_gradient_and_the_backbone_none(kind):
    model, given = (
        choosing(small(kind).train(), [[1, 0, 1, 1, 0]] * 2 if kind is DHPF else [[1, 0, 1, 1, 0]] * 4),
        batch(),
    )
    model.training_loss(given, epoch=0).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all()
    assert model.reductions[1][0].weight.grad.abs().sum() == 0  # no pair chose it
    assert model.reductions[2][0].weight.grad.abs().sum() > 0


def test_statistics_of_every_layer_are_kept_up_and_those_of_the_backbone_left():
    model = small().train()
    before = model.backbone.net.bn1.running_mean.clone()
    run(model, batch())
    assert [int(reduction[1].num_batches_tracked) for reduction in model.reductions] == [4, 2, 2, 2, 2]
    assert torch.equal(model.backbone.net.bn1.running_mean, before)


def test_one_pair_can_be_trained_on():
    model = small().train()
    model.training_loss(batch(1), epoch=0).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.gates.parameters())


def test_without_points_the_loss_is_that_of_the_gates():
    model, given = small(), batch()
    given["valid"] = torch.zeros_like(given["valid"])
    output = run(model, given)
    assert model.loss(output, given) == model.selection_loss(output)


def test_what_is_in_the_padding_does_not_matter():
    model, given = small(), batch()
    output = run(model, given)
    padded = {
        key: torch.cat((given[key], torch.full_like(given[key][:, :2], 0)), 1)
        for key in ("valid", "source_points", "target_points")
    }
    padded["source_points"][:, 5:] = torch.nan
    assert model.loss(output, {**given, **padded}) == model.loss(output, given)


def test_points_follow_the_mutual_nearest_neighbours():
    """Each source cell is given the target cell two to the right; points then move by two strides."""
    model = small()
    with torch.no_grad():
        output = run(model, batch(1))
    cells = torch.arange(256)
    appearance = torch.zeros(1, 256, 256)
    appearance[0, cells, torch.where(cells % 16 < 14, cells + 2, cells)] = 1
    flat = output._replace(appearance=appearance, hough=torch.ones_like(output.hough))
    points = torch.tensor([[[20.0, 21.5], [3.0, 60.0]]])
    assert (model.transfer(flat, points) - points).tolist() == [[[8.0, 0.0], [8.0, 0.0]]]
    assert model.transfer(flat, points[:, :0]).shape == (1, 0, 2)


def test_confidence_is_appearance_times_hough():
    model = small()
    with torch.no_grad():
        output = run(model, batch())
    cells = torch.tensor([4, 200])
    hough = differences_at(output.hough, cells, model.grid, model.grid)
    found = model.confidence(output, 1, cells, output.appearance[1, cells])
    torch.testing.assert_close(found, output.appearance[1, cells] * hough[1])


def test_pairs_of_two_classes_are_what_the_weak_loss_compares_with():
    model, given = small(WeakDHPF), batch()
    with torch.no_grad():
        output = run(model, given)
        undecided = model.entropy(output)
        crossed = run(model, {**given, "target": given["target"].flip(0)})
        ratio = undecided.mean() / model.entropy(crossed).mean()
        both = torch.cat((output.gates, crossed.gates))
        expected = ratio + (both.mean(0) - 0.5).square().sum()
        torch.testing.assert_close(model.training_loss(given, 0), expected)
        alone = model.training_loss({**given, "category": torch.zeros(2)}, 0)
        torch.testing.assert_close(alone, undecided.mean() + model.selection_loss(output))
    assert 0 < undecided.min() < undecided.max() < 7.9  # bits of 225 cells


def test_published_checkpoints_load_strictly(tmp_path):
    shapes = published_shapes("dhpf_resnet101")
    state = {key: torch.tensor(float(n)).expand(shape).contiguous() for n, (key, shape) in enumerate(shapes.items())}
    path = tmp_path / "best.pt"
    torch.save(state, path)
    with torch.device("meta"):
        model = DHPF(pretrained=False)
    model = model.to_empty(device="cpu")
    learner = [p for p in model.parameters() if p.requires_grad]
    assert sum(parameter.numel() for parameter in learner) == 5_798_608
    assert len(state) == 442 == sum(not key.startswith("backbone.") for key in model.state_dict())
    load_weights(model, path)
    for key, value in state.items():
        assert torch.equal(model.state_dict()[key_of(key)].float(), value), key
    del state["gumbel_ffns.3.1.bias"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"1 of .* weights missing \(gates.3.1.bias\)"):
        load_weights(model, path)


def test_a_published_checkpoint_tells_its_backbone():
    keys = {f"gates.{layer}.3.weight": torch.zeros(2, 32, 1, 1) for layer in range(17)}
    assert arguments_of(keys) == {"backbone": "resnet50.tv_in1k"}
    with pytest.raises(InputError, match="with 16 candidate layers"):
        arguments_of(dict(list(keys.items())[1:]))
    with pytest.raises(InputError, match="no weights of DHPF"):
        arguments_of({"x": torch.zeros(1)})


def test_resnet_50_has_seventeen_candidates_and_221_keys():
    with torch.device("meta"):
        model = DHPF(backbone="resnet50.tv_in1k", pretrained=False)
    assert len(model.candidates) == 17
    assert sum(not key.startswith("backbone.") for key in model.state_dict()) == 221


@pytest.mark.parametrize("name", ["dhpf", "dhpf-weak"])
def test_saved_and_loaded_it_is_the_same(tmp_path, name):
    model, given = small(WeakDHPF if name == "dhpf-weak" else DHPF, layers=[0, 3]), batch()
    model.save_pretrained(tmp_path)
    again, _ = load_checkpoint(name, tmp_path)
    points = given["source_points"]
    with torch.no_grad():
        assert torch.equal(again.transfer(run(again, given), points), model.transfer(run(model, given), points))


def test_weights_of_another_backbone_are_one_clear_line(tmp_path):
    other = small(backbone="resnet18", layers=[0, 1])
    save_file({key: value.contiguous() for key, value in other.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="does not fit dhpf with backbone resnet10t"):
        load_weights(small(), tmp_path)
