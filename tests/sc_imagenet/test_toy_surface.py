"""The true place of any point of a toy object in another picture of its category."""

import numpy as np
import pytest

from sc_imagenet.toy.pairs import CATEGORIES, image_size
from sc_imagenet.toy.render import render_object
from sc_imagenet.toy.surface import carry, pictured


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
        carried = carry(pictured("train", category, number), pictured("train", category, number + 4), ours.points[both])
        errors.append(np.linalg.norm(carried.points - theirs.points[both], axis=1)[carried.on_object])
    assert np.median(np.concatenate(errors)) < 5  # pixels, of pictures of about 200


def test_points_of_a_picture_carried_to_itself_stay():
    surface = pictured("train", "boat", 0)
    rows, columns = np.nonzero(surface.mask)
    points = np.stack([columns, rows], -1)[::50].astype(float)
    carried = carry(surface, surface, points)
    assert carried.on_object.all()
    assert carried.visible.all()
    np.testing.assert_allclose(carried.points, points, atol=0.01)


def test_a_point_beside_the_object_has_no_true_place():
    surface = pictured("train", "boat", 0)
    row, column = np.argwhere(~surface.mask)[0]
    carried = carry(surface, pictured("train", "boat", 1), np.array([[column, row], [-50.0, 3.0]]))
    assert not carried.on_object.any()
    assert not carried.visible.any()
    assert np.isnan(carried.points).all()
