"""The categories of the toy set, each a procedure that builds a new instance from random numbers."""

from __future__ import annotations

from sc_imagenet.toy.categories.creatures import bird, quadruped, robot
from sc_imagenet.toy.categories.furniture import chair, lamp, teapot
from sc_imagenet.toy.categories.vehicles import aeroplane, bicycle, boat, car
from sc_imagenet.toy.mesh import Assembly, Category, Solid

__all__ = ["KINDS", "Assembly", "Category", "Solid"]

KINDS: dict[str, Category] = {
    "aeroplane": Category(aeroplane, azimuth=(5, 85), elevation=(12, 40)),
    "bicycle": Category(bicycle, azimuth=(50, 130), elevation=(5, 30)),
    "bird": Category(bird, azimuth=(5, 85), elevation=(8, 40)),
    "boat": Category(boat, azimuth=(35, 115), elevation=(5, 30)),
    "car": Category(car, azimuth=(5, 85), elevation=(10, 35)),
    "chair": Category(chair, azimuth=(-15, 65), elevation=(10, 35)),
    "lamp": Category(lamp, azimuth=(30, 110), elevation=(8, 35)),
    "quadruped": Category(quadruped, azimuth=(45, 125), elevation=(5, 30)),
    "robot": Category(robot, azimuth=(-40, 40), elevation=(5, 30)),
    "teapot": Category(teapot, azimuth=(50, 130), elevation=(8, 35)),
}
