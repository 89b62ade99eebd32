"""GECO's metrics: every point visible in the source, by whether the target shows it and its mirror partner.

Classes of a source point k: ``11`` the target shows k and its partner, ``10`` k alone, ``1x`` k, which has no
partner, ``01`` the partner alone, ``00`` neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmark.scoring.evaluation import distance, sums, thresholds
from benchmark.scoring.keypoints import geco_partners
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.subsets import partners, row_of

CLASSES = ("10", "01", "11", "00", "1x")
COUNTERS = (*CLASSES, "1x_hat", "10_hat", "11_hat", "11_overline", "01_overline", "11_tilde")
# Each ratio: counters over counters.
RATIOS = {
    "PCK": (("10_hat", "11_hat", "1x_hat"), ("10", "11", "1x")),
    "hat_10": (("10_hat",), ("10",)),
    "hat_11": (("11_hat",), ("11",)),
    "hat_1x": (("1x_hat",), ("1x",)),
    "overline_11": (("11_overline",), ("11",)),
    "tilde_11": (("11_tilde",), ("11",)),
}


def counters(predictions: Predictions, protocol: Protocol) -> dict[str, np.ndarray]:
    """GECO's counters of each pair at each alpha, (N, A), by their names.

    ``_hat`` within alpha * d of the true point; ``11_overline`` not, but of the partner; ``11_tilde`` of both;
    ``01_overline`` of the partner although the target does not show the point.
    """
    rows = np.flatnonzero(predictions.other_visible)
    owner = predictions.owner[rows]
    partner = partners(predictions, lambda category: geco_partners(predictions.dataset, category))
    oriented = (partner != predictions.ids)[rows] & (predictions.ids[rows] >= 0)
    mirror = row_of(predictions, partner)[rows]
    shown = predictions.true_visible[rows]
    mirror_shown = oriented & (mirror >= 0) & predictions.true_visible[mirror]
    d = thresholds(predictions, protocol)[owner]
    predicted = predictions.predicted_in(protocol.frame)[rows]
    sizes = predictions.sizes[owner]

    def near(points: np.ndarray, valid: np.ndarray) -> np.ndarray:
        error = distance(predicted, protocol.frame.place(points, sizes))
        return protocol.comparison.within(error, d, protocol.alphas) & valid[:, None]

    hit = near(predictions.true[rows], shown)
    other = near(predictions.true[mirror], mirror_shown)
    kinds = {
        "11": shown & mirror_shown,
        "10": shown & ~mirror_shown & oriented,
        "1x": shown & ~oriented,
        "01": ~shown & mirror_shown,
        "00": ~shown & ~mirror_shown,
    }
    pairs, width = len(predictions), len(protocol.alphas)
    found = {name: sums(owner, np.repeat(kinds[name][:, None], width, axis=1), pairs) for name in CLASSES}
    for name in ("1x", "10", "11"):
        found[f"{name}_hat"] = sums(owner, hit & kinds[name][:, None], pairs)
    found["11_overline"] = sums(owner, other & ~hit & kinds["11"][:, None], pairs)
    found["01_overline"] = sums(owner, other & kinds["01"][:, None], pairs)
    found["11_tilde"] = sums(owner, other & hit & kinds["11"][:, None], pairs)
    return found


def ratio(found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One of ``RATIOS`` of summed counters, as a fraction; 0 where there is nothing, as GECO has it."""
    above, below = RATIOS[name]
    total = sum(found[part] for part in below)
    hits = sum(found[part] for part in above)
    return np.asarray(np.divide(hits, total, out=np.zeros(np.shape(total)), where=np.asarray(total) > 0))


def cub_pairs(images: int, pairs: int = 10_000, seed: int = 123) -> np.ndarray:
    """GECO's pairs of CUB, (2, pairs): shuffles of all images, the first half against the last.

    Each shuffle is seeded with ``seed`` + the number of pairs so far.
    """
    found: list[np.ndarray] = []
    count = 0
    while count < pairs:
        order = np.random.RandomState(seed + count).permutation(images)
        half = images // 2
        found.append(np.stack([order[:half], order[-half:]]))
        count += half
    return np.concatenate(found, axis=1)[:, :pairs]
