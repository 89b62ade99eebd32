"""Image networks of timm that models and the generator read features from, and their weights.

build_backbone("resnet101.tv_in1k", [0, 8, 20]) gives the maps of three layers
"""

from sc_imagenet.backbones.backbone import Backbone, build_backbone, with_positions_of

__all__ = ["Backbone", "build_backbone", "with_positions_of"]
