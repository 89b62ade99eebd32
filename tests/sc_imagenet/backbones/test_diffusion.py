"""Diffusion models as backbones: a small one with random weights, written to disk and read as a large one would be."""

from __future__ import annotations

import json

import pytest
import torch

from baselines.nearest import Nearest
from sc_imagenet.backbones.named import build_named
from sc_imagenet.core.errors import InputError

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'sc-imagenet[diffusion]'")

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
VAE = {
    "block_out_channels": (4, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NO_PROMPT = "the prompt's encoder needs transformers: pip install 'sc-imagenet[diffusion]'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion in diffusers' layout, of a few hundred kB."""
    transformers = pytest.importorskip("transformers", reason=NO_PROMPT)
    place = tmp_path_factory.mktemp("diffusion")
    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(**UNET).save_pretrained(place / "unet")
    diffusers.AutoencoderKL(**VAE).save_pretrained(place / "vae")
    diffusers.DDIMScheduler(**NOISE).save_pretrained(place / "scheduler")
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "at</w>"]
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPTextConfig(vocab_size=len(words), **sizes, **ends)
    transformers.CLIPTextModel(config).save_pretrained(place / "text_encoder")
    (place / "tokenizer").mkdir()
    (place / "tokenizer" / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (place / "tokenizer" / "merges.txt").write_text("#version: 0.2\na t</w>\n")
    (place / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    return place


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_dift_is_the_output_of_an_up_block_for_noisy_latents(folder, images):
    """Of its definition, with diffusers' own scheduler and the whole U-Net; 4 is the second up block's last layer."""
    backbone = build_named(f"dift model={folder} layers=4 ensemble=3 prompt=cat", size=64).eval()
    (maps,) = backbone(images[:1])
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    vae = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    seen = []
    unet.up_blocks[1].register_forward_hook(lambda module, given, output: seen.append(output))
    draws = backbone._draws(images[:1])
    with torch.no_grad():
        posterior = vae.encode(images[:1]).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(3, 4, 32, 32, generator=draws)
        noise = torch.randn(3, 4, 32, 32, generator=draws)
        scheduler = diffusers.DDIMScheduler(**NOISE)
        noisy = scheduler.add_noise(latents * 0.18215, noise, torch.full((3,), 261))
        unet(noisy, 261, encoder_hidden_states=backbone.net.prompt.expand(3, -1, -1))
    torch.testing.assert_close(maps, seen[0].mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    assert (backbone.channels, backbone.strides) == ((16,), (2,))


def test_every_layer_has_the_channels_and_the_stride_that_are_said(folder, images):
    backbone = build_named(f"sd15 model={folder} layers=0,1,2,3,4,5,6 window=0", size=60).eval()
    assert backbone.size == 64
    maps = backbone(images)
    assert [each.shape for each in maps] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(backbone.channels, backbone.strides)
    ]
    assert backbone.strides == (8, 8, 4, 4, 2, 2, 2)


def test_features_are_a_function_of_the_image(folder, images):
    backbone = build_named(f"dift model={folder} layers=4", size=64).eval()
    (both,) = backbone(images)
    torch.manual_seed(5)
    (alone,) = backbone(images[1:])
    assert torch.equal(both[1:], alone)
    (other,) = build_named(f"dift model={folder} layers=4 seed=1", size=64).eval()(images[1:])
    assert not torch.equal(other, alone)


def test_noise_of_one_seed_serves_all_windows_and_overlaps_are_averaged(folder, images):
    backbone = build_named(f"sd15 model={folder} layers=2,4 window=64", size=96).eval()
    image = torch.zeros(1, 3, 96, 96) + 0.25
    whole = backbone(image)
    windows = build_named(f"sd15 model={folder} layers=2,4", size=64).eval()(image[..., :64, :64])
    for features, window in zip(whole, windows):
        assert features.shape[-1] == window.shape[-1] * 3 // 2
        third = window.shape[-1] // 2
        torch.testing.assert_close(features[..., :third, :third], window[..., :third, :third])  # of one window alone
        middle = (window[..., third:, third:] + window[..., third:, :third] + window[..., :third, third:]) / 4
        middle += window[..., :third, :third] / 4
        torch.testing.assert_close(features[..., third : 2 * third, third : 2 * third], middle)


def test_a_u_net_of_a_file_takes_the_place_of_the_folders(folder, images, tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    cleaned = diffusers.UNet2DConditionModel(**UNET)
    save_file(cleaned.state_dict(), tmp_path / "cleandift.safetensors")
    text = f"cleandift model={folder} layers=4 weights={tmp_path / 'cleandift.safetensors'}"
    backbone = build_named(text, size=64).eval()
    own = dict(cleaned.named_parameters())
    kept = dict(backbone.net.unet.named_parameters())
    assert kept
    assert all(torch.equal(value, own[name]) for name, value in kept.items())
    again = build_named(
        f"cleandift model={folder} layers=4", size=64, pretrained=str(tmp_path / "cleandift.safetensors")
    )
    assert torch.equal(backbone(images)[0], again.eval()(images)[0])
    with pytest.raises(InputError, match="weights=FILE"):
        build_named(f"cleandift model={folder}")
    smaller = {name: value for name, value in cleaned.state_dict().items() if not name.startswith("mid_block")}
    save_file(smaller, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"part\.safetensors: lacks mid_block"):
        build_named(f"cleandift model={folder}", pretrained=str(tmp_path / "part.safetensors"))


def test_a_prompt_changes_features_and_is_kept_with_the_weights(folder, images, tmp_path):
    matcher = Nearest(f"dift model={folder} layers=4 ensemble=1 prompt='a cat'", size=64, standardise=False).eval()
    plain = Nearest(f"dift model={folder} layers=4 ensemble=1", size=64, standardise=False).eval()
    ours = matcher.encode(images)[0]
    assert not torch.equal(ours, plain.encode(images)[0])
    matcher.save_pretrained(tmp_path)
    assert torch.equal(ours, Nearest.from_pretrained(tmp_path).encode(images)[0])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: (place / "vae").rename(place / "vea"), "has no vae"),
        (lambda place: (place / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "unet cannot be had"),
        (lambda place: (place / "text_encoder" / "model.safetensors").write_bytes(b"no"), "text_encoder cannot be had"),
        (lambda place: (place / "scheduler" / "scheduler_config.json").write_text("{"), "scheduler cannot be had"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(folder, tmp_path, spoil, said):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(InputError, match=said) as raised:
        build_named(f"dift model={copy}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("model=/no/such/folder", "no such folder"),
        ("layers=99", "Valid: 0 to 12"),
        ("time=1000", "time=1000"),
        ("ensemble=0", "ensemble=0"),
        ("noise=loud", "Valid: image, fixed, none"),
        ("noise=none latent=mean", "would be the same"),
        ("window=100", "window=100"),
        ("final_norm=true", "option of backbone dift"),
    ],
)
def test_what_cannot_be_is_one_line(options, said):
    with torch.device("meta"), pytest.raises(InputError, match=said) as raised:
        build_named(f"dift {options}", pretrained=options.startswith("model="))
    assert "\n" not in str(raised.value)


def test_stable_diffusion_has_the_layers_that_the_papers_read():
    """Of the real sizes, without memory: DIFT's 1280 x 48 x 48 at 768 px; s5, s4, s3 of SD 1.5 on 15, 30, 60 cells."""
    with torch.device("meta"):
        whole = diffusers.UNet2DConditionModel(
            sample_size=96, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        dift = build_named("dift", size=768, pretrained=False)
        sd15 = build_named("sd15", size=960, pretrained=False)
    assert sum(each.numel() for each in whole.parameters()) == 865_910_724
    assert (dift.layers, dift.channels, dift.size // dift.strides[0]) == ((6,), (1280,), 48)
    assert len(dift.net.unet.up_blocks) == 2
    assert (sd15.channels, tuple(960 // stride for stride in sd15.strides)) == ((1280, 1280, 640), (15, 30, 60))
    assert dift._outlets == ["up_blocks.1"]
    assert sd15._outlets == ["up_blocks.0.resnets.1", "up_blocks.1.attentions.1", "up_blocks.2.attentions.1"]
