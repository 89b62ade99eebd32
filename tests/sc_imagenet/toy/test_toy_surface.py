"""The true place of any point of a toy object in another picture of its category."""

import numpy as np
import pytest

from sc_imagenet.toy.pairs import CATEGORIES, image_size
from sc_imagenet.toy.render import render_object
from sc_imagenet.toy.surface import pictured, transfer


def rendered(category, number):
    seed = (0, CATEGORIES.index(category), number)
    return render_object(category, seed, image_size(seed))


@pytest.mark.parametrize("category", ["aeroplane", "chair", "bicycle", "quadruped"])
def test_surface_points_agree_with_the_semantic_points(category):
    """Semantic points lie on or little below the surface, so their pixels' surface goes where they go."""
    errors = []
    for number in range(4):
        ours, theirs = rendered(category, number), rendered(category, number + 4)
        both = ours.visible & theirs.visible
        found = transfer(
            pictured("train", category, number), pictured("train", category, number + 4), ours.points[both]
        )
        errors.append(np.linalg.norm(found.points - theirs.points[both], axis=1)[found.on_object])
    assert np.median(np.concatenate(errors)) < 5  # pixels, of pictures of about 200


def test_points_of_a_picture_carried_to_itself_stay():
    surface = pictured("train", "boat", 0)
    rows, columns = np.nonzero(surface.mask)
    points = np.stack([columns, rows], -1)[::50].astype(float)
    found = transfer(surface, surface, points)
    assert found.on_object.all()
    assert found.visible.all()
    np.testing.assert_allclose(found.points, points, atol=0.01)


def test_a_point_beside_the_object_has_no_true_place():
    surface = pictured("train", "boat", 0)
    row, column = np.argwhere(~surface.mask)[0]
    found = transfer(surface, pictured("train", "boat", 1), np.array([[column, row], [-50.0, 3.0]]))
    assert not found.on_object.any()
    assert not found.visible.any()
    assert np.isnan(found.points).all()
