"""The categories of the toy set, each a procedure that builds a new instance from random numbers."""

from __future__ import annotations

from sc_imagenet.toy.categories.assembly import PAINTS, Assembly, Category, Solid
from sc_imagenet.toy.categories.creatures import bird, quadruped, robot
from sc_imagenet.toy.categories.furniture import chair, lamp, teapot
from sc_imagenet.toy.categories.vehicles import aeroplane, bicycle, boat, car

__all__ = ["KINDS", "PAINTS", "Assembly", "Category", "Solid"]

KINDS: dict[str, Category] = {
    "aeroplane": Category(aeroplane, azimuth=(-20, 100), elevation=(10, 45)),
    "bicycle": Category(bicycle, azimuth=(40, 140), elevation=(5, 35)),
    "bird": Category(bird, azimuth=(-20, 100), elevation=(5, 45)),
    "boat": Category(boat, azimuth=(20, 130), elevation=(5, 35)),
    "car": Category(car, azimuth=(-15, 95), elevation=(10, 40)),
    "chair": Category(chair, azimuth=(-30, 80), elevation=(10, 40)),
    "lamp": Category(lamp, azimuth=(15, 125), elevation=(8, 40)),
    "quadruped": Category(quadruped, azimuth=(25, 145), elevation=(5, 35)),
    "robot": Category(robot, azimuth=(-60, 60), elevation=(5, 35)),
    "teapot": Category(teapot, azimuth=(30, 150), elevation=(8, 40)),
}
