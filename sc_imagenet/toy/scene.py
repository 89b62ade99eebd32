"""What is in front of the camera: an object, clutter behind it, occluders before it, materials, a light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sc_imagenet.core.errors import unknown_name
from sc_imagenet.toy.camera import Camera, frame, look
from sc_imagenet.toy.categories import KINDS
from sc_imagenet.toy.categories.assembly import Solid
from sc_imagenet.toy.mesh import Mesh, box, ellipsoid, merged, rotation, tube
from sc_imagenet.toy.paint import PAINTS, Materials, random_materials

OBJECT, BEHIND, BEFORE = 0, 1, 2  # roles of a face
TRUNCATED = 0.15  # share of images whose frame may cut the object
OCCLUDED = 0.25  # share of images with an occluder
LIMIT = 0.3  # radius of an occluder at the object's distance, in object radii


@dataclass(frozen=True)
class Scene:
    """Everything a picture is made of, in the object's axes; the object lies in the unit ball."""

    solid: Solid
    camera: Camera
    mesh: Mesh
    roles: np.ndarray  # (F,) OBJECT, BEHIND or BEFORE
    materials: Materials
    light: np.ndarray  # (3,) unit vector towards the light


def compose(category: str, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Put together a random scene around a new instance of ``category``; ``size`` is (width, height).

    Raises:
        InputError: no such category.
    """
    if category not in KINDS:
        raise unknown_name("toy category", category, KINDS)
    kind = KINDS[category]
    solid = kind.build(rng).finish()
    turned = look(rng.uniform(*kind.azimuth), rng.uniform(*kind.elevation), rng.uniform(-8, 8))
    shown = rng.uniform(0.75, 0.98) * min(size)
    slack = (np.array(size) - shown) / 2
    if rng.uniform() < TRUNCATED:
        slack = slack + 0.15 * shown
    middle = np.array(size) / 2 + rng.uniform(-1, 1, 2) * slack
    camera = frame(solid.mesh.vertices, turned, rng.uniform(2.2, 5), shown, middle)

    things = [(solid.mesh, OBJECT)]
    for _ in range(int(rng.integers(1, 4))):
        things.append((_place(_piece(rng, category), rng, camera, size), BEHIND))
    if rng.uniform() < OCCLUDED:
        things.append((_occluder(rng, camera), BEFORE))
    meshes = [replace(thing, paint=thing.paint + PAINTS * index) for index, (thing, _) in enumerate(things)]
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1.2, 0.1), -rng.uniform(0.4, 1)])
    return Scene(
        solid,
        camera,
        merged(meshes),
        np.concatenate([np.full(len(thing.faces), role) for thing, role in things]),
        random_materials(rng, len(things)),
        light @ camera.rotation / np.linalg.norm(light),
    )


def _piece(rng: np.random.Generator, category: str) -> Mesh:
    """A few parts of an instance of another category, as a distraction; radius 1."""
    other = str(rng.choice([name for name in KINDS if name != category]))
    parts = KINDS[other].build(rng).parts
    first = int(rng.integers(len(parts)))
    piece = merged(parts[first : first + int(rng.integers(2, 6))])
    centred = piece.vertices - piece.vertices.mean(0)
    return replace(piece, vertices=centred / np.linalg.norm(centred, axis=1).max())


def _place(piece: Mesh, rng: np.random.Generator, camera: Camera, size: tuple[int, int]) -> Mesh:
    """A piece of radius 1 put far behind the object, anywhere in the image, in any orientation."""
    depth = camera.distance + rng.uniform(3, 5)
    radius = rng.uniform(0.1, 0.25) * min(size) * depth / camera.focal
    pixel = rng.uniform(0, 1, 2) * size
    spot = np.append((pixel - camera.centre) / camera.focal, 1.0) * depth
    angles = rng.uniform(0, 360, 2)
    turn = rotation("z", angles[0]) @ rotation("x", angles[1])
    return replace(piece, vertices=radius * piece.vertices).moved(turn, _world(camera, spot))


def _occluder(rng: np.random.Generator, camera: Camera) -> Mesh:
    """A box, ball, bar or disc between the camera and the object, over a part of it."""
    radius = rng.uniform(0.4, 1) * LIMIT
    shapes = (
        box(radius * rng.uniform(0.8, 1.6, 3)),
        ellipsoid(radius * rng.uniform(0.5, 1, 3)),
        tube([(0, 0, -3 * radius), (0, 0, 3 * radius)], 0.25 * radius),
        tube([(0, 0, -0.05), (0, 0, 0.05)], radius, segments=18),
    )
    shape = shapes[int(rng.integers(len(shapes)))]
    depth = camera.distance - rng.uniform(1.05, 1.35)
    angle = rng.uniform(0, 2 * np.pi)
    aside = rng.uniform(0.2, 0.8) * np.array([np.cos(angle), np.sin(angle)])
    spot = np.append(aside / camera.distance, 1.0) * depth
    small = replace(shape, vertices=shape.vertices * depth / camera.distance)
    turn = rotation("z", rng.uniform(0, 360)) @ rotation("x", rng.uniform(0, 360))
    return small.moved(turn, _world(camera, spot))


def _world(camera: Camera, seen: np.ndarray) -> np.ndarray:
    """Camera coordinates (3,) to the object's axes."""
    return (seen - np.array([0.0, 0.0, camera.distance])) @ camera.rotation
