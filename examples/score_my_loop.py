"""A row of a LaTeX table under three protocols, from any loop that yields points; imports nothing of ours but PCK."""

import numpy as np

from benchmark.scoring.metric import PCK


def my_pairs():
    """Put your data here: pairs with points in pixels of their images (SPair-71k's JSON has all of this)."""
    random = np.random.default_rng(0)
    for number in range(100):
        points = random.uniform((50, 40), (450, 340), size=(8, 2))
        yield {"pair_id": f"{number:06d}", "category": ("cat", "bus")[number % 2], "ids": np.arange(8),
               "source_points": points, "target_points": points + 5, "target_size": (500, 375),
               "target_bbox": (40, 30, 460, 350)}  # fmt: skip


def my_model(pair):
    """Put your matcher here: source points in, points in the target out; an array, a list or a tensor."""
    return pair["source_points"] + np.random.default_rng(int(pair["pair_id"])).normal(0, 20, size=(8, 2))


metric = PCK(["strict@1", "geoaware@1", "sd4match@1"], dataset="spair-71k")
for pair in my_pairs():
    metric.update(predicted_points=my_model(pair), **pair)
scores = metric.compute()
print(scores.headline("strict@1"))
print(scores.latex_row("Mine", alpha=0.1))
