"""Pairs made up for tests: ids, visibility and boxes as SPair-71k has them."""

import numpy as np

CATEGORIES = ("cat", "bus", "aeroplane")


def pairs(count=12, points=9, seed=0, noise=12.0, visible=0.8):
    """Pairs as a loop hands them to the metric."""
    random = np.random.default_rng(seed)
    made = []
    for row in range(count):
        size = random.integers(120, 500, 2)
        true = random.random((points, 2)) * size
        corner = random.random(2) * size / 3
        made.append(
            {
                "pair_id": f"pair-{row:04d}",
                "category": CATEGORIES[row % len(CATEGORIES)],
                "ids": np.arange(points),
                "source_points": random.random((points, 2)) * size,
                "target_points": true,
                "predicted_points": true + random.normal(0, noise, true.shape),
                "source_size": size,
                "target_size": size,
                "source_bbox": (*corner, *(corner + size / 2)),
                "target_bbox": (*corner, *(corner + size / 2)),
                "source_visible": random.random(points) < visible,
                "target_visible": random.random(points) < visible,
                "azimuths": random.integers(0, 8, 2),
                "viewpoint_variation": int(random.integers(3)),
            }
        )
    made[0]["source_visible"][:2] = made[0]["target_visible"][:2] = True
    return made
