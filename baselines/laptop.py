"""What the ``small`` and ``tiny`` recipes of all models share: EfficientNet-Lite0, half of it trained.

Its early stages stay as they are: they are general, and the costliest to train. So do the statistics it was trained
with: batches of 8 are too small to replace them. Stages 3, 5 and 7 end at strides 8, 16 and 32.
"""

from __future__ import annotations

from baselines.recipe import Recipe

BACKBONE = "tf_efficientnet_lite0"
EARLY_STAGES = ("conv_stem", "bn1", *(f"blocks.{k}." for k in range(4)))


def early_stages(backbone: str = "backbone") -> tuple[str, ...]:
    """Beginnings of the names of the parameters that stay as they are.

    >>> early_stages("backbone.source")[0]
    'backbone.source.net.conv_stem'
    """
    return tuple(f"{backbone}.net.{part}" for part in EARLY_STAGES)


LAPTOP = Recipe(
    model={"backbone": BACKBONE},
    lr=1e-3,
    backbone_lr=5e-4,
    frozen=early_stages(),
    weight_decay=0.05,
    batch=8,
    epochs=20,
    schedule="cosine",
    warmup=10,
    augmentation="cats",
    backbone_batchnorm="eval",
    clip_gradient=1.0,
)
