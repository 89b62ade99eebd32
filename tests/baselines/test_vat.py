"""VAT on small grids: its encoder against the definition, its flow, its loss; parity is in tests/parity."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines import registry
from baselines.checkpoints import load_checkpoint
from baselines.layers import encoder4d, window_attention
from baselines.layers.encoder4d import Encoder4d
from baselines.layers.window_attention import WindowBlock
from baselines.registry import find_recipe
from baselines.vat import VAT, arguments_of, from_published, members
from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry.flow import mapping_to_flow
from sc_imagenet.geometry.windows4d import attention_mask, half_shift, partition
from tests.parity.references import published_shapes

SMALL = {"backbone": "resnet10t", "pretrained": False, "size": 64, "width": 16}


def small(**changes) -> VAT:
    torch.manual_seed(0)
    return VAT(**{**SMALL, **changes}).eval()


def images(count: int = 2, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, 3, side, side, generator=generator) for _ in range(2))


def batch(count: int = 2, points: int = 5, side: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    source, target = (torch.rand(count, points, 2, generator=generator) * side for _ in range(2))
    return {"source_points": source, "target_points": target, "valid": torch.ones(count, points, dtype=torch.bool)}


def encoded_by_definition(encoder: Encoder4d, target: list[torch.Tensor], source: list[torch.Tensor]) -> torch.Tensor:
    """Whole volumes (B, C, h, w, h', w'), one layer after the other (section 3.2 of the paper)."""
    unit = [[level / (level.norm(dim=1, keepdim=True) + 1e-5) for level in maps] for maps in (target, source)]
    x = torch.stack([torch.einsum("bcij,bckm->bijkm", *pair) for pair in zip(*unit)], 1).clamp(min=0)
    for number, layer in enumerate(encoder.layers):
        strides = encoder.strides if number == 0 else (1, 2)
        by_target = swapped(convolved(swapped(pooled(x, strides[1])), layer.query_conv, strides[0]))
        by_source = convolved(swapped(pooled(swapped(x), strides[0])), layer.supp_conv, strides[1])
        x = F.relu(layer.norm(by_target + by_source))
    return x.permute(0, 2, 3, 4, 5, 1)


def swapped(volume: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w, h', w') -> (B, C, h', w', h, w)."""
    return volume.permute(0, 1, 4, 5, 2, 3)


def pooled(volume: torch.Tensor, stride: int) -> torch.Tensor:
    return inner(volume, lambda maps: F.max_pool2d(maps, stride, ceil_mode=True))


def convolved(volume: torch.Tensor, conv: torch.nn.Conv2d, stride: int) -> torch.Tensor:
    return inner(volume, lambda maps: F.conv2d(maps, conv.weight, conv.bias, stride, padding=1))


def inner(volume: torch.Tensor, function) -> torch.Tensor:
    """Apply a function of maps (N, C, h, w) to the last two dimensions of (B, C, *, *, h, w)."""
    moved = volume.permute(0, 2, 3, 1, 4, 5)
    return function(moved.flatten(0, 2)).unflatten(0, moved.shape[:3]).permute(0, 3, 1, 2, 4, 5)


@pytest.mark.parametrize("strides", [(2, 2), (2, 1)])
@pytest.mark.parametrize("grid", [8, 5])
@pytest.mark.parametrize("chunk", [1, 1 << 21])
def test_the_encoder_equals_its_definition_gradients_included(strides, grid, chunk, monkeypatch):
    monkeypatch.setattr(encoder4d, "CHUNK", chunk)
    torch.manual_seed(0)
    encoder = Encoder4d(3, [4, 8, 16], strides, [2, 4, 8])
    for layer in encoder.layers:
        torch.nn.init.normal_(layer.norm.weight)
        torch.nn.init.normal_(layer.norm.bias)
    target, source = ([torch.randn(2, 6, grid, grid, requires_grad=True) for _ in range(3)] for _ in range(2))
    leaves = (*target, *source, *encoder.parameters())
    found = []
    for volume in (encoder(target, source), encoded_by_definition(encoder, target, source)):
        weights = torch.linspace(-1, 2, volume.numel()).view(volume.shape)
        found.append((volume, *torch.autograd.grad((volume * weights).sum(), leaves)))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, atol=2e-4 * wanted.abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize("grid", [(8, 8, 8, 8), (6, 6, 3, 3)])
def test_a_block_is_the_same_in_parts_and_at_once(grid, monkeypatch):
    torch.manual_seed(0)
    block = WindowBlock(8, grid, 4, shifted=True)
    torch.nn.init.normal_(block.relative_position_bias_table)
    x = torch.randn(2, *grid, 8, requires_grad=True)
    found = []
    for tokens in (1 << 20, 300):
        monkeypatch.setattr(window_attention, "TOKENS", tokens)
        out = block(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), (x, *block.parameters()))))
    for at_once, in_parts in zip(*found, strict=True):
        torch.testing.assert_close(in_parts, at_once, atol=1e-4 * at_once.abs().max().item(), rtol=1e-4)


def test_what_a_token_must_not_see_does_not_change_it():
    torch.manual_seed(0)
    grid = (6, 6, 3, 3)
    block = WindowBlock(8, grid, 4, shifted=True).eval()
    masks, kind = attention_mask(grid, block.window, block.shift)
    apart = masks[kind][:, 0] != 0  # from the first token of each window
    windows = partition(torch.randn(1, *grid, 8), block.window, block.shift)
    changed = windows + 10 * apart[None, :, :, None]
    assert apart.any()
    torch.testing.assert_close(block.in_windows(windows)[:, :, 0], block.in_windows(changed)[:, :, 0])


@pytest.mark.parametrize(
    "changes", [{}, {"size": 100}, {"width": 32}, {"layers": [2, 3, 4]}, {"layers": [4]}, {"backbone": "convnext_atto"}]
)
def test_any_backbone_size_and_layers_give_a_flow_that_can_be_trained(changes):
    model = small(**changes)
    side = model.size
    flow = model(*images(side=side))
    assert flow.shape == (2, 2, -(-side // 16), -(-side // 16))
    model.loss(flow, batch(side=side)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name


def test_a_residual_flow_begins_where_the_correlations_point():
    model = small(residual=True)
    flow = model(*images())
    levels = [model.levels(maps) for maps in model.features(*images())]
    torch.testing.assert_close(flow, mapping_to_flow(model.pointed_at(levels[0][1], levels[1][1])))
    own = [torch.eye(16).view(1, 16, 4, 4)]  # every cell has a feature of its own
    assert mapping_to_flow(model.pointed_at(own, own)).abs().max() < 1e-4


def test_pairs_of_a_batch_do_not_touch_each_other():
    model, (source, target) = small(), images()
    torch.testing.assert_close(model(source, target)[1:], model(source[1:], target[1:]), atol=1e-4, rtol=0)


def test_training_passes_target_and_source_through_the_backbone_one_after_the_other():
    model = small().train()
    model(*images())
    assert model.backbone.net.bn1.num_batches_tracked == 2


def test_layers_belong_to_the_level_of_their_stride():
    assert members((8,) * 4 + (16,) * 23 + (32,) * 3) == [[27, 28, 29], list(range(4, 27)), [0, 1, 2, 3]]
    assert members((14, 14)) == [[0, 1]] * 3


def test_the_published_model_has_the_published_size():
    with torch.device("meta"):
        model = VAT(pretrained=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == 48_371_800
    assert [len(level) for level in model.members] == [3, 23, 4]


def test_loss_is_the_mean_distance_over_supervised_cells():
    model, given = small(), batch(1, 1)
    off = torch.zeros(1, 2, 4, 4)
    off[:, 0], off[:, 1] = 3, 4
    assert model.loss(model.true_flow(given) + off, given).item() == pytest.approx(5)
    nothing = {**given, "valid": torch.zeros(1, 1, dtype=torch.bool)}
    assert model.loss(off, nothing) == 0


def test_a_width_that_does_not_go_is_one_clear_error():
    with pytest.raises(InputError, match=r"width of 40 channels\. Take a multiple of 16"):
        small(width=40)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = small(layers=[2, 4])
    model.save_pretrained(tmp_path)
    again, _ = load_checkpoint("vat", tmp_path)
    assert torch.equal(model(*images()), again(*images()))


@pytest.mark.parametrize("dataset", ["spair-71k", "pf-pascal", "sc-imagenet"])
def test_it_is_trained_as_published(dataset):
    recipe = find_recipe("vat", dataset)
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay, recipe.batch) == (3e-4, 3e-6, 0.0, 8)
    assert (recipe.epochs, recipe.milestones, recipe.gamma) == (300, (150, 200, 250), 0.5)
    assert recipe.model["size"] == 512
    assert registry.card("vat").supervision == "keypoints"


def test_every_published_key_is_accounted_for():
    shapes = published_shapes("vat")
    with torch.device("meta"):
        theirs = {key: torch.empty(shape) for key, shape in shapes.items()}
        model = VAT(pretrained=False)
    state = from_published(theirs)
    assert (len(shapes), len(shapes) - len(state)) == (903, 21)  # 14 tables of offsets, 7 masks
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    assert arguments_of(state) == {"layers": list(range(4, 34)), "size": 512, "width": 128}


def test_tables_of_the_published_code_are_those_computed_here():
    shapes = published_shapes("vat")
    for number, block in ((0, 1), (1, 1), (2, 1)):
        key = f"hpn_learner.ours.transformer.{number}.transformer.layer.blocks.{block}.attn_mask"
        grid = (8 << number, 8 << number, 8, 8)
        masks, kind = attention_mask(grid, 4, half_shift(grid, 4))
        assert [len(kind), *masks.shape[1:]] == shapes[key]


def test_weights_of_other_windows_are_refused():
    key = "hpn_learner.ours.transformer.0.transformer.layer.blocks.0.attn.relative_position_index"
    with pytest.raises(InputError, match="81x81: windows of 256 tokens are known"):
        from_published({key: torch.zeros(81, 81)})
    with pytest.raises(InputError, match="no published weights of VAT"):
        arguments_of({"backbone.net.conv1.weight": torch.zeros(1)})
