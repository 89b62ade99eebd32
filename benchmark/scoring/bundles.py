"""Named bundles of metrics: what the paper's tables used, what is right, and everything side by side."""

from __future__ import annotations

from baselines.protocol import PublishedProtocol
from benchmark.scoring.pck import AVERAGES, Metric
from sc_imagenet.core.errors import unknown_name
from sc_imagenet.data.catalog import canonical, info

ALPHAS = (0.05, 0.10, 0.15)


# How predictions are scored that were stored before they told it themselves (``PredictionInfo.protocol``): scoring
# them imports no model, and with it torch. New models do not stand here: how they are scored stands in their file.
_OF_OLDER_FILES = {
    "cats": PublishedProtocol(256, "backward"),
    "semimatch": PublishedProtocol(256, "backward"),
    "scorrsan": PublishedProtocol(256, "backward"),
    "vat": PublishedProtocol(512, "backward"),
    "ncnet": PublishedProtocol(224, "backward"),
    "dhpf": PublishedProtocol(240, "forward"),
    "dhpf-weak": PublishedProtocol(240, "forward"),
    "transformatcher": PublishedProtocol(240, "forward", padded="bbox-padded2"),
    "hpf": PublishedProtocol(None, "forward", padded="bbox-kp"),
}


def published(model: str) -> PublishedProtocol | None:
    """How a model's authors scored it, for predictions and results that do not tell; None where that is not known."""
    return _OF_OLDER_FILES.get(model.strip().lower().replace("_", "-"))


def strict(dataset: str) -> list[Metric]:
    """Original pixels, image average, the data set's own threshold; meant for direction ``forward``.

    >>> print(*strict("pf-willow"))
    pck@0.05/bbox-kp/image pck@0.1/bbox-kp/image pck@0.15/bbox-kp/image
    """
    return _at_alphas(info(dataset).threshold, None, "image")


def paper(dataset: str, model: str, size: int | None = None, protocol: PublishedProtocol | None = None) -> list[Metric]:
    """What the published tables used for this data set and model.

    Args:
        dataset: of the catalogue.
        model: the registry's name.
        size: side of the model's own frame.
        protocol: how the model is scored, where predictions or a result tell it; None: by its name.

    Who holds errors on PF-WILLOW against the box around the points does so in original pixels, whatever frame is taken
    otherwise. A model that no table knows is scored in its own frame, of side ``size``, and with the padded rule on
    PF-WILLOW too, which makes its row comparable with the others.

    >>> print(paper("pf-willow", "cats")[1])
    pck@0.1/bbox-padded@256/image
    """
    name = canonical(dataset)
    known = protocol or published(model) or PublishedProtocol(size or None, "forward")
    if name == "pf-willow":
        return _at_alphas(known.padded, None if known.padded == "bbox-kp" else known.frame, "image")
    return _at_alphas(info(name).threshold, known.frame, "image")


def all(
    dataset: str,
    model: str = "",
    size: int | None = None,
    boxes: bool = True,
    protocol: PublishedProtocol | None = None,
) -> list[Metric]:
    """Every threshold in original pixels and in the model's frame under every average.

    ``strict`` and ``paper`` come first. ``boxes`` tells whether the pairs have object boxes; the padded rules
    are there for PF-WILLOW, which alone was scored with them.
    """
    name = canonical(dataset)
    kinds = ["img", *(["bbox"] if boxes else []), "bbox-kp"]
    if name == "pf-willow":
        kinds += ["bbox-padded", "bbox-padded2"]
    known = protocol or published(model) or PublishedProtocol(size or None, "forward")
    frames = dict.fromkeys((None, known.frame))
    wide = [
        metric
        for average in AVERAGES
        for kind in kinds
        for frame in frames
        for metric in _at_alphas(kind, frame, average)
    ]
    found = dict.fromkeys([*strict(name), *paper(name, model, size, known), *wide])
    return [metric for metric in found if boxes or metric.threshold != "bbox"]


BUNDLES = ("paper", "strict", "all")


def bundle(
    name: str,
    dataset: str,
    model: str,
    size: int | None = None,
    boxes: bool = True,
    protocol: PublishedProtocol | None = None,
) -> list[Metric]:
    """The bundle of this name: ``paper``, ``strict`` or ``all``.

    Raises:
        InputError: unknown bundle or data set.
    """
    if name == "strict":
        return strict(dataset)
    if name == "paper":
        return paper(dataset, model, size, protocol)
    if name == "all":
        return all(dataset, model, size, boxes, protocol)
    raise unknown_name("protocol", name, BUNDLES)


def _at_alphas(threshold: str, frame: int | None, average: str) -> list[Metric]:
    return [Metric(alpha, threshold, frame, average) for alpha in ALPHAS]
