"""Named bundles of metrics: what the paper's tables used, what is right, and everything side by side.

Knows the models' published protocols by name, so that scoring needs neither a model nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.scoring.pck import AVERAGES, Metric
from sc_imagenet.core.errors import unknown_name
from sc_imagenet.data.catalog import canonical, info

ALPHAS = (0.05, 0.10, 0.15)


@dataclass(frozen=True)
class Published:
    """How a model's authors scored it."""

    frame: int | None  # side of the resized frame; None: original pixels
    direction: str
    padded: str = "bbox-padded"  # their rule on PF-WILLOW


PUBLISHED = {
    "cats": Published(256, "backward"),
    "semimatch": Published(256, "backward"),
    "scorrsan": Published(256, "backward"),
    "vat": Published(512, "backward"),
    "ncnet": Published(224, "backward"),
    "dhpf": Published(240, "forward"),
    "dhpf-weak": Published(240, "forward"),
    "transformatcher": Published(240, "forward", padded="bbox-padded2"),
    "hpf": Published(None, "forward", padded="bbox-kp"),
}


def published(model: str) -> Published | None:
    """How a model's authors scored it, None for a model that no paper's table knows."""
    return PUBLISHED.get(model.strip().lower().replace("_", "-"))


def strict(dataset: str) -> list[Metric]:
    """Original pixels, image average, the data set's own threshold; meant for direction ``forward``.

    >>> print(*strict("pf-willow"))
    pck@0.05/bbox-kp/image pck@0.1/bbox-kp/image pck@0.15/bbox-kp/image
    """
    return _at_alphas(info(dataset).threshold, None, "image")


def paper(dataset: str, model: str, size: int | None = None) -> list[Metric]:
    """What the published tables used for this data set and model.

    A model that no table knows is scored in its own frame, of side ``size``, and with the padded rule on
    PF-WILLOW too, which makes its row comparable with the others.

    >>> print(paper("pf-willow", "cats")[1])
    pck@0.1/bbox-padded@256/image
    """
    name = canonical(dataset)
    known = published(model) or Published(size or None, "forward")
    threshold = known.padded if name == "pf-willow" else info(name).threshold
    return _at_alphas(threshold, known.frame, "image")


def all(dataset: str, model: str = "", size: int | None = None, boxes: bool = True) -> list[Metric]:
    """Every threshold in original pixels and in the model's frame under every average.

    ``strict`` and ``paper`` come first. ``boxes`` tells whether the pairs have object boxes; the padded rules
    are there for PF-WILLOW, which alone was scored with them.
    """
    name = canonical(dataset)
    kinds = ["img", *(["bbox"] if boxes else []), "bbox-kp"]
    if name == "pf-willow":
        kinds += ["bbox-padded", "bbox-padded2"]
    known = published(model)
    frames = dict.fromkeys((None, known.frame if known else size or None))
    wide = [
        metric
        for average in AVERAGES
        for kind in kinds
        for frame in frames
        for metric in _at_alphas(kind, frame, average)
    ]
    found = dict.fromkeys([*strict(name), *paper(name, model, size), *wide])
    return [metric for metric in found if boxes or metric.threshold != "bbox"]


BUNDLES = ("paper", "strict", "all")


def bundle(name: str, dataset: str, model: str, size: int | None = None, boxes: bool = True) -> list[Metric]:
    """The bundle of this name: ``paper``, ``strict`` or ``all``.

    Raises:
        InputError: unknown bundle or data set.
    """
    if name == "strict":
        return strict(dataset)
    if name == "paper":
        return paper(dataset, model, size)
    if name == "all":
        return all(dataset, model, size, boxes)
    raise unknown_name("protocol", name, BUNDLES)


def _at_alphas(threshold: str, frame: int | None, average: str) -> list[Metric]:
    return [Metric(alpha, threshold, frame, average) for alpha in ALPHAS]
