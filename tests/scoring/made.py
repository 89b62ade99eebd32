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


def spair_folder(root):
    """The synthetic set of the golden cases as a folder of SPair-71k, with images of one colour."""
    import json

    from PIL import Image

    from tests.golden.references import load

    arrays = load("spair_synth")
    shown = [
        {str(k): point.tolist() if seen else None for k, (point, seen) in enumerate(zip(points, visible))}
        for points, visible in zip(arrays["image_points"], arrays["image_visible"])
    ]
    folders = {name: root / name for name in ("JPEGImages", "ImageAnnotation")}
    for row, (name, category) in enumerate(zip(arrays["image_name"].tolist(), arrays["image_category"].tolist())):
        for folder in folders.values():
            (folder / category).mkdir(parents=True, exist_ok=True)
        Image.new("L", tuple(arrays["image_size"][row].tolist())).save(folders["JPEGImages"] / category / f"{name}.jpg")
        told = {"kps": shown[row], "azimuth_id": int(arrays["image_azimuth"][row])}
        (folders["ImageAnnotation"] / category / f"{name}.json").write_text(json.dumps(told))
    pairs = root / "PairAnnotation" / "test"
    lists = root / "Layout" / "large"
    for folder in (pairs, lists):
        folder.mkdir(parents=True)
    for row, stem in enumerate(arrays["pair_file"].tolist()):
        one, two = int(arrays["pair_source"][row]), int(arrays["pair_target"][row])
        ids = [k for k in range(30) if shown[one][str(k)] and shown[two][str(k)]]
        told = {
            "src_kps": [shown[one][str(k)] for k in ids],
            "trg_kps": [shown[two][str(k)] for k in ids],
            "kps_ids": [str(k) for k in ids],
            "src_bndbox": arrays["image_box"][one].tolist(),
            "trg_bndbox": arrays["image_box"][two].tolist(),
            "viewpoint_variation": int(arrays["pair_viewpoint"][row]),
        }
        (pairs / f"{stem}.json").write_text(json.dumps(told))
    (lists / "test.txt").write_text("\n".join(arrays["pair_file"].tolist()) + "\n")
    return root
