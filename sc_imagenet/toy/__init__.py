"""The embedded default data set: pictures of 3-D objects, rendered here from a seed, with exact points."""

from sc_imagenet.toy.pairs import CATEGORIES, SPLITS, TOY_VERSION, Split, render_pairs
from sc_imagenet.toy.render import Rendered, render_object

__all__ = ["CATEGORIES", "SPLITS", "TOY_VERSION", "Rendered", "Split", "render_object", "render_pairs"]
