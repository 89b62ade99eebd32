"""Features of Stable Diffusion, read in the up-sampling half of its U-Net through ``diffusers``.

    dift       DIFT (Tang et al., NeurIPS 2023): SD 2.1, noise of step 261, the mean of 8 draws, after up block 1
    cleandift  CleanDIFT (Stracke et al., CVPR 2025): the same U-Net, fine-tuned to need no noise; one pass
    sd15       what SD + DINO (Zhang et al., NeurIPS 2023) and GeoAware-SC read of SD 1.5: three levels, noise of step
               100, windows of 512 px. A RELATIVE of theirs: they put an image's caption of their own, learnt with
               ODISE, in place of the prompt

A layer's number: 0 is the middle block, k the k-th residual block of the up blocks with its attention, CleanDIFT's
"us k"; the last one of an up block is read after its up-sampler, so that 6 is DIFT's up block 1. Nothing that comes
later is computed, and the decoder of images is left out.

Published is a prompt that names the class ("a photo of a {category}"); here one prompt, empty by default, serves every
image, since a matcher is not told what it sees. Nor is noise drawn anew at every pass: it is a function of the seed and
of the image's content ("image"), or the same for all ("fixed"), so that an image's features are always the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sc_imagenet.backbones.backbone import Backbone, Layers, checked_layers
from sc_imagenet.backbones.pretrained import NoWeights, first_line, load_whole
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import read_state, shortened

TOKENS = 77  # of a prompt
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # images from -1 to 1
STEPS = 1000  # of noise
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # what is read of a folder in diffusers' layout
READ = (".safetensors", ".json", ".txt")  # files of a folder that decide what is read of it


@dataclass(frozen=True)
class Diffusion:
    """How features are taken; the fields are what may stand behind the backbone's name (see ``named.py``)."""

    model: str  # a folder in diffusers' layout, or OWNER/NAME of the Hub
    layers: tuple[int, ...]
    time: int  # the step, of 1,000, that the U-Net is told, and whose share of noise is added
    ensemble: int = 1  # draws of latent and noise that features are the mean of
    latent: Literal["sample", "mean"] = "mean"  # of the auto-encoder's posterior
    noise: Literal["image", "fixed", "none"] = "none"  # drawn by seed and content, by the seed alone, not added
    seed: int = 0
    prompt: str = ""  # of all images
    window: int = 0  # side of the windows that are seen by themselves, overlaps averaged; 0: the whole image


DIFFUSION = {
    "dift": Diffusion(
        "stabilityai/stable-diffusion-2-1", (6,), time=261, ensemble=8, latent="sample", noise="image", seed=0
    ),
    "cleandift": Diffusion("stabilityai/stable-diffusion-2-1", (6,), time=261),
    "sd15": Diffusion(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", (2, 5, 8), time=100, noise="fixed", seed=42, window=512
    ),
}
# The U-Nets of these, for random weights where no folder says more; all else of them is diffusers' default.
UNETS: dict[str, dict[str, Any]] = {
    "stabilityai/stable-diffusion-2-1": {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {"sample_size": 64, "cross_attention_dim": 768},
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


class NoisyUNet(nn.Module):
    """What of a diffusion model features need: the image's encoder, the U-Net up to a layer, the prompt, the noise.

    Args:
        vae: diffusers' ``AutoencoderKL``.
        unet: its ``UNet2DConditionModel``.
        prompt: (1, 77, C) embedding of the prompt.
        levels: (2,) shares of image and noise in a noisy latent.
    """

    vae: Any
    unet: Any
    prompt: Tensor
    levels: Tensor

    def __init__(self, vae: Any, unet: Any, prompt: Tensor, levels: Tensor) -> None:
        super().__init__()
        self.vae, self.unet = vae, unet
        self.vae.decoder = self.vae.post_quant_conv = None
        self.register_buffer("prompt", prompt)
        self.register_buffer("levels", levels)

    def cut(self, blocks: int) -> None:
        """Leave out what follows so many up blocks."""
        self.unet.up_blocks = self.unet.up_blocks[:blocks]
        self.unet.conv_norm_out, self.unet.conv_out = None, nn.Identity()


class DiffusionBackbone(Backbone):
    """A diffusion model read at ``layers``; images are in [-1, 1]."""

    net: NoisyUNet

    def __init__(self, name: str, net: NoisyUNet, layers: Layers, how: Diffusion) -> None:
        unet = net.unet
        outlets: list[tuple[nn.Module, int]] = [(unet.mid_block, 0)]  # what gives a layer, and how often up-sampled
        blocks = [0]  # up blocks that a layer needs
        for number, block in enumerate(unet.up_blocks):
            inside = list(getattr(block, "attentions", block.resnets))
            outlets += [(each, number) for each in inside[:-1]]
            outlets.append((block, number + (number + 1 < len(unet.up_blocks))))
            blocks += [number + 1] * len(inside)
        super().__init__(name, net, checked_layers(how.layers if layers is None else layers, len(outlets), name), HALF)
        wide = [unet.config.block_out_channels[-1], *reversed(unet.config.block_out_channels)]
        self.how = how
        self.latent_stride = 2 ** (len(net.vae.config.block_out_channels) - 1)
        self.cell = self.latent_stride * 2 ** (len(unet.up_blocks) - 1)  # pixels of the coarsest
        self.channels = tuple(wide[blocks[layer]] for layer in self.layers)
        self.strides = tuple(self.cell // 2 ** outlets[layer][1] for layer in self.layers)
        self._outlets = [self._path_of(outlets[layer][0]) for layer in self.layers]
        net.cut(max(1, blocks[self.layers[-1]]))

    def _path_of(self, module: nn.Module) -> str:
        return next(path for path, each in self.net.unet.named_modules() if each is module)

    def settle_size(self, size: int, overhang: bool = False) -> None:
        """Set ``size`` to the side from ``size`` pixels on that the coarsest cells of the U-Net fill."""
        self.asked_size, self.size = size, -(-size // self.cell) * self.cell

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S), S a multiple of the coarsest cell -> features of each layer; each seen by itself."""
        return [torch.cat(maps) for maps in zip(*(self._maps(image[None]) for image in images))]

    def _maps(self, image: Tensor) -> list[Tensor]:
        side = image.shape[-1]
        window = min(self.how.window or side, side)
        if window == side:
            return self._seen(image)
        starts = sorted({min(start, side - window) for start in range(0, side, window)})
        sums = [image.new_zeros(1, c, side // s, side // s) for c, s in zip(self.channels, self.strides)]
        counts = [torch.zeros_like(each[:, :1]) for each in sums]
        for top in starts:
            for left in starts:
                maps = self._seen(image[..., top : top + window, left : left + window])
                for features, total, count, stride in zip(maps, sums, counts, self.strides):
                    rows, columns = (slice(start // stride, (start + window) // stride) for start in (top, left))
                    total[..., rows, columns] += features
                    count[..., rows, columns] += 1
        return [total / count for total, count in zip(sums, counts)]

    def _seen(self, image: Tensor) -> list[Tensor]:
        """What the U-Net makes of one image or window (1, 3, H, W) in one pass."""
        net, how = self.net, self.how
        posterior = net.vae.encode(image).latent_dist
        latents = posterior.mean.expand(how.ensemble, -1, -1, -1)
        shape = latents.shape
        draws = self._draws(image)
        if how.latent == "sample":
            latents = latents + posterior.std * torch.randn(shape, generator=draws).to(latents)
        latents = latents * net.vae.config.scaling_factor
        if how.noise != "none":
            kind = draws if how.noise == "image" else torch.Generator().manual_seed(how.seed)
            latents = net.levels[0] * latents + net.levels[1] * torch.randn(shape, generator=kind).to(latents)
        found: dict[str, Tensor] = {}

        def keep(path: str) -> Any:
            def hook(module: nn.Module, given: Any, output: Any) -> None:
                found[path] = output if isinstance(output, Tensor) else output[0]

            return hook

        hooks = [net.unet.get_submodule(path).register_forward_hook(keep(path)) for path in self._outlets]
        try:
            prompt = net.prompt.to(latents.dtype).expand(how.ensemble, -1, -1)
            net.unet(latents, how.time, encoder_hidden_states=prompt, return_dict=False)
        finally:
            for each in hooks:
                each.remove()
        return [found[path].mean(0, keepdim=True) for path in self._outlets]

    def _draws(self, image: Tensor) -> torch.Generator:
        """Random numbers of the seed and of what an image shows, in 256 shades of each colour."""
        shades = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().contiguous()
        digest = hashlib.sha256(f"{self.how.seed} {tuple(shades.shape)} ".encode() + shades.numpy().tobytes()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def build_diffusion(
    name: str, how: Diffusion, layers: Layers = None, size: int = 768, pretrained: bool | str = True
) -> DiffusionBackbone:
    """A diffusion model as a frozen backbone.

    Args:
        name: of ``DIFFUSION``.
        how: how features are taken.
        layers: numbers as the head of this file says; None: those of ``how``.
        size: side of the images; the next that the U-Net's cells fill is taken.
        pretrained: True: the weights that ``how.model`` holds; a file of a U-Net's weights, as CleanDIFT publishes
            one, in place of its own; False: random ones.

    Raises:
        InputError: ``diffusers`` is not installed, no such folder or layer, weights that do not fit or cannot be had.
    """
    _check(name, how)
    if name == "cleandift" and pretrained is True:
        fix = "Give weights=FILE, such as cleandift_sd21_unet.safetensors of its authors."
        raise NoWeights("cleandift without its U-Net would be SD 2.1 without noise", fix=fix)
    if pretrained:
        parts = _open(how)
        if isinstance(pretrained, str):
            fix = f"The U-Net of {how.model} is wanted, with the keys of diffusers."
            load_whole(parts.unet, read_state(pretrained), pretrained, fix)
    else:
        parts = _random(how)
    net = NoisyUNet(parts.vae, parts.unet, parts.prompt, parts.levels)
    backbone = DiffusionBackbone(name, net, layers, how)
    backbone.settle_size(size)
    return backbone


def folder_files(how: Diffusion) -> list[Path]:
    """The files of a local folder that features depend on; none of a model of the Hub."""
    folder = Path(how.model).expanduser()
    return sorted(path for part in PARTS for path in (folder / part).glob("*") if path.suffix in READ)


@dataclass(frozen=True)
class _Parts:
    vae: Any
    unet: Any
    prompt: Tensor
    levels: Tensor


def _check(name: str, how: Diffusion) -> None:
    if importlib.util.find_spec("diffusers") is None:
        raise InputError(f"backbone {name!r} needs diffusers", fix="pip install 'sc-imagenet[diffusion]'")
    if how.ensemble < 1 or not 0 <= how.time < STEPS:
        raise InputError(
            f"backbone {name!r} with ensemble={how.ensemble} time={how.time}",
            fix=f"At least one draw, and a step from 0 to {STEPS - 1}.",
        )
    if how.ensemble > 1 and how.latent == "mean" and how.noise == "none":
        fix = "Give noise=image or latent=sample."
        raise InputError(f"backbone {name!r}: all {how.ensemble} draws would be the same", fix=fix)
    if how.window % 64:
        raise InputError(f"backbone {name!r} with window={how.window}", fix="A multiple of 64 pixels.")


def _open(how: Diffusion) -> _Parts:
    """What a folder or a repository holds."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    where = _place(how.model)
    if importlib.util.find_spec("transformers") is None:
        raise InputError("the prompt's encoder needs transformers", fix="pip install 'sc-imagenet[diffusion]'")
    from transformers import CLIPTextModel, CLIPTokenizer

    whole = {"torch_dtype": torch.float32}
    unet, vae = (
        _weights(UNet2DConditionModel, where, "unet", **whole),
        _weights(AutoencoderKL, where, "vae", **whole),
    )
    _check_kind(unet, vae, where)
    tokenizer = _part(CLIPTokenizer, where, "tokenizer")
    encoder = _weights(CLIPTextModel, where, "text_encoder").float().eval()
    taken = tokenizer([how.prompt], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    with torch.no_grad():
        prompt = encoder(taken.input_ids)[0].float()
    return _Parts(vae, unet, prompt, _levels(_part(DDIMScheduler, where, "scheduler"), how.time))


def _random(how: Diffusion) -> _Parts:
    """The same with random weights; a known repository is not asked for what it is built like."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    if how.model in UNETS and not Path(how.model).is_dir():
        unet: Any = UNet2DConditionModel(**UNETS[how.model])
        vae: Any = AutoencoderKL(**VAE)
        scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    else:
        where = _place(how.model)
        unet, vae = (
            kind.from_config(_called(kind.load_config, where, part))
            for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
        )
        scheduler = _part(DDIMScheduler, where, "scheduler")
        _check_kind(unet, vae, where)
    prompt = torch.randn(1, TOKENS, unet.config.cross_attention_dim)
    return _Parts(vae, unet, prompt, _levels(scheduler, how.time))


def _place(model: str) -> str:
    """Where a model lies: its folder, or the repository's name as it is."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith(("/", ".", "~")) or model.count("/") != 1:
            raise InputError("no such folder", where=model, fix="Give one in diffusers' layout, or OWNER/NAME.")
        return model
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        fix = f"A folder in diffusers' layout holds {', '.join(PARTS)}."
        raise InputError(f"has no {shortened(missing, len(missing))}", where=folder, fix=fix)
    return str(folder)


def _part(kind: Any, where: str, part: str, **options: Any) -> Any:
    return _called(kind.from_pretrained, where, part, **options)


def _called(load: Any, where: str, part: str, **options: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of diffusers about the Hub's client
            return load(where, subfolder=part, **options)
    except Exception as error:  # whatever a hub client, diffusers, transformers or torch may raise here
        fix = "Give model=FOLDER in diffusers' layout, with weights as safetensors."
        raise InputError(f"{part} cannot be had ({first_line(error)})", where=where, fix=fix) from error


def _weights(kind: Any, where: str, part: str, **options: Any) -> Any:
    """A part with all its weights."""
    model, found = _part(kind, where, part, use_safetensors=True, output_loading_info=True, **options)
    odd = [str(key) for key in (*found["missing_keys"], *found["mismatched_keys"])]
    if odd:
        fix = "Its config.json is that of another model, or the download is not whole."
        raise InputError(f"{part} lacks {shortened(odd)}", where=where, fix=fix)
    return model


def _check_kind(unet: Any, vae: Any, where: str) -> None:
    """See that it is a Stable Diffusion of the first two generations."""
    config = unet.config
    if config.addition_embed_type is not None or config.class_embed_type is not None:
        raise InputError("has a U-Net that wants more than a prompt", where=where, fix="Give SD 1.5 or SD 2.1.")
    if config.in_channels != vae.config.latent_channels:
        what = f"has a U-Net of {config.in_channels} channels for latents of {vae.config.latent_channels}"
        raise InputError(what, where=where, fix="Give SD 1.5 or SD 2.1, not one that fills or enlarges images.")


def _levels(scheduler: Any, time: int) -> Tensor:
    kept = scheduler.alphas_cumprod[time].float()
    return torch.stack((kept.sqrt(), (1 - kept).sqrt()))
