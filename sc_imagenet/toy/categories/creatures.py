"""Things with joints: a four-legged animal, a bird, a robot; all face +x."""

from __future__ import annotations

import numpy as np

from sc_imagenet.toy.mesh import Assembly, box, ellipsoid, plate, rotation, tube


def quadruped(rng: np.random.Generator) -> Assembly:
    """A body on four legs with knees, a neck, a head with ears, and a tail."""
    made = Assembly()
    length, fat = rng.uniform(0.55, 0.8), rng.uniform(0.2, 0.34)
    made.add(ellipsoid((length, fat * 0.9, fat), paint=0, segments=16))
    shin, limb = rng.uniform(0.28, 0.5), rng.uniform(0.06, 0.1)
    for x, end in ((0.62 * length, "front"), (-0.62 * length, "rear")):
        for hand, y in (("left", 0.55 * fat), ("right", -0.55 * fat)):
            swing, bend = rng.uniform(-28, 28), rng.uniform(0, 35) * (1 if end == "rear" else -1)
            hip = np.array([x, y, -0.35 * fat])
            knee = hip + shin * rotation("y", swing) @ (0, 0, -1)
            paw = knee + shin * rotation("y", swing + bend) @ (0, 0, -1)
            made.add(tube([hip, knee, paw], [1.5 * limb, limb, 0.7 * limb], paint=0, segments=8))
            toe = paw + (0.05, 0, 0)
            made.add(ellipsoid((1.6 * limb, limb, 0.8 * limb), toe, paint=2, segments=8))
            made.mark(f"{end} {hand} paw", toe, 2 * limb)
    neck, lift, turn = rng.uniform(0.2, 0.65), rng.uniform(20, 70), rng.uniform(-35, 35)
    withers = np.array([0.72 * length, 0, 0.45 * fat])
    poll = withers + neck * rotation("z", turn / 2) @ rotation("y", -lift) @ (1, 0, 0)
    made.add(tube([withers - (0.12, 0, 0.08), poll], [0.75 * fat, 0.11], paint=0))
    made.mark("withers", (0.5 * length, 0, 0.86 * fat), 0.1)
    gaze = rotation("z", turn) @ rotation("y", rng.uniform(-5, 40))
    skull, muzzle = rng.uniform(0.15, 0.2), rng.uniform(0.16, 0.34)
    head = [
        ellipsoid((skull * 1.15, skull, skull), paint=1, segments=12),
        tube([(0.5 * skull, 0, -0.03), (skull + muzzle, 0, -0.06)], [0.75 * skull, 0.45 * skull], paint=1),
        ellipsoid([0.06] * 3, (skull + muzzle, 0, -0.04), paint=2, segments=8),
    ]
    made.mark("nose", poll + gaze @ (skull + muzzle, 0, -0.04), 0.12)
    ear, spread = rng.uniform(0.14, 0.34), rng.uniform(0.02, 0.2)
    for hand, y in (("left", 1), ("right", -1)):
        tip = np.array([-0.06, y * (0.6 * skull + spread), 0.7 * skull + ear])
        head.append(tube([(-0.02, y * 0.6 * skull, 0.5 * skull), tuple(tip)], [0.09, 0.02], paint=4, segments=7))
        made.mark(f"{hand} ear tip", poll + gaze @ tip, 0.06)
    made.add(*(part.moved(gaze, poll) for part in head))
    root = np.array([-0.95 * length, 0, 0.25 * fat])
    wag = rotation("z", rng.uniform(-40, 40)) @ rotation("y", rng.uniform(-20, 60))
    middle, end = root + wag @ (-0.25, 0, 0), root + wag @ (-rng.uniform(0.4, 0.7), 0, rng.uniform(-0.2, 0.2))
    made.add(tube([root + (0.06, 0, 0), middle, end], [0.08, 0.06, 0.045], paint=4, segments=7))
    made.mark("tail root", root, 0.14)
    made.mark("tail tip", end, 0.08)
    return made


def bird(rng: np.random.Generator) -> Assembly:
    """A body with spread wings, a beaked head, a fanned tail and two feet."""
    made = Assembly()
    length, fat = rng.uniform(0.42, 0.6), rng.uniform(0.2, 0.3)
    made.add(ellipsoid((length, fat, fat), paint=0, segments=16))
    neck = rng.uniform(0.12, 0.4) * rotation("y", rng.uniform(-80, -20)) @ (1, 0, 0)
    collar = np.array([0.75 * length, 0, 0.3 * fat])
    skull, poll = rng.uniform(0.14, 0.19), collar + neck
    made.add(tube([collar - (0.1, 0, 0.03), poll], [0.6 * fat, 0.7 * skull], paint=0))
    made.add(ellipsoid([skull] * 3, poll, paint=1, segments=12))
    beak = rng.uniform(0.16, 0.38)
    made.add(tube([poll + (0.6 * skull, 0, 0), poll + (skull + beak, 0, -0.05)], [0.09, 0.012], paint=4))
    made.mark("beak tip", poll + (skull + beak, 0, -0.05), 0.04)
    made.mark("crown", poll + (0, 0, skull), 0.06)
    made.mark("breast", (0.95 * length, 0, -0.25 * fat), 0.06)
    span, chord, sweep = rng.uniform(0.65, 1.1), rng.uniform(0.3, 0.5), rng.uniform(-0.1, 0.4)
    lift = rng.uniform(0, 35)
    for hand, y in (("left", 1), ("right", -1)):
        rise = np.radians(lift + rng.uniform(-10, 10))
        root = np.array([0.4 * length, y * 0.7 * fat, 0.5 * fat])
        wrist = root + (0.05, y * 0.5 * span * np.cos(rise), 0.5 * span * np.sin(rise))
        tip = wrist + (-sweep, y * 0.55 * span, 0.1 * span * np.sin(rise))
        inner = [root, wrist, wrist - (chord, 0, 0), root - (1.1 * chord, 0, 0)]
        outer = [wrist, tip, wrist - (chord, 0, 0)]
        made.add(plate(inner, (0, 0, 0.05), paint=1), plate(outer, (0, 0, 0.03), paint=3))
        made.mark(f"{hand} wing wrist", wrist, 0.05)
        made.mark(f"{hand} wing tip", tip, 0.04)
    fan, long, tilt = rng.uniform(0.1, 0.28), rng.uniform(0.35, 0.65), rng.uniform(-0.15, 0.2)
    rump = np.array([-0.85 * length, 0, 0.1 * fat])
    corners = {"left": rump + (-long, fan, tilt), "right": rump + (-long, -fan, tilt)}
    made.add(plate([rump + (0, 0.07, 0), corners["left"], corners["right"], rump - (0, 0.07, 0)], (0, 0, 0.04), 4))
    for hand, corner in corners.items():
        made.mark(f"{hand} tail corner", corner, 0.04)
    leg = rng.uniform(0.25, 0.5)
    for hand, y in (("left", 1), ("right", -1)):
        hip = np.array([-0.1 * length, y * 0.45 * fat, -0.75 * fat])
        foot = hip + leg * rotation("y", rng.uniform(-25, 25)) @ (0, 0, -1)
        made.add(tube([hip, foot], 0.035, paint=2, segments=6))
        made.add(box((0.2, 0.11, 0.04), foot + (0.05, 0, 0), paint=2))
        made.mark(f"{hand} foot", foot, 0.08)
    return made


def robot(rng: np.random.Generator) -> Assembly:
    """A boxy torso and head with an antenna, arms with elbows, legs with feet."""
    made = Assembly()
    deep, wide, high = rng.uniform(0.25, 0.4), rng.uniform(0.45, 0.75), rng.uniform(0.55, 0.85)
    made.add(box((deep, wide, high), (0, 0, high / 2), 0, top=(1, rng.uniform(0.9, 1.25))))
    badge = np.array([deep / 2 + 0.01, 0, 0.6 * high])
    made.add(box((0.05, 0.4 * wide, 0.3 * high), badge, paint=3))
    made.mark("badge", badge + (0.025, 0, 0), 0.04)
    side, tall = rng.uniform(0.26, 0.42), rng.uniform(0.24, 0.4)
    nod = rotation("z", rng.uniform(-30, 30))
    neck = np.array([0, 0, high + 0.06])
    rod = rng.uniform(0.12, 0.3)
    head = [
        box((side, side * 1.15, tall), (0, 0, tall / 2), paint=1),
        *(ellipsoid([0.055] * 3, (side / 2, y * 0.28 * side, 0.62 * tall), 2, 8) for y in (1, -1)),
        box((0.04, 0.5 * side, 0.05), (side / 2, 0, 0.25 * tall), paint=2),
        tube([(0, 0, tall), (0, 0, tall + rod)], 0.025, paint=2, segments=5),
        ellipsoid([0.06] * 3, (0, 0, tall + rod), paint=4, segments=8),
    ]
    made.add(
        tube([(0, 0, high - 0.02), tuple(neck + (0, 0, 0.02))], 0.09, 2), *(part.moved(nod, neck) for part in head)
    )
    made.mark("mouth", neck + nod @ (side / 2 + 0.02, 0, 0.25 * tall), 0.04)
    made.mark("antenna", neck + nod @ (0, 0, tall + rod), 0.1)
    arm, leg, limb = rng.uniform(0.28, 0.42), rng.uniform(0.5, 0.8), rng.uniform(0.06, 0.1)
    for hand, y in (("left", 1), ("right", -1)):
        shoulder = np.array([0, y * (wide / 2 + 0.09), 0.88 * high])
        raise_, out = rotation("y", -rng.uniform(-30, 80)), rotation("x", y * rng.uniform(10, 75))
        elbow = shoulder + out @ raise_ @ (0, 0, -arm)
        palm = elbow + out @ raise_ @ rotation("y", -rng.uniform(0, 80)) @ (0, 0, -arm)
        made.add(ellipsoid([0.13] * 3, shoulder, paint=4, segments=10))
        made.add(tube([shoulder, elbow, palm], [limb, 0.9 * limb, 0.8 * limb], paint=1, segments=8))
        made.add(ellipsoid([1.5 * limb] * 3, palm, paint=2, segments=10))
        made.mark(f"{hand} shoulder", shoulder, 0.18)
        made.mark(f"{hand} elbow", elbow, 1.8 * limb)
        made.mark(f"{hand} hand", palm, 2 * limb)
        step = rotation("y", rng.uniform(-30, 30))
        hip = np.array([0, y * 0.3 * wide, 0.02])
        ankle = hip + step @ (0, 0, -leg)
        made.add(tube([hip, ankle], [1.3 * limb, 1.1 * limb], paint=0, segments=8))
        made.add(box((0.32, 0.2, 0.12), ankle + (0.07, 0, -0.03), paint=4, top=(0.8, 0.9)))
        made.mark(f"{hand} foot", ankle + (0.23, 0, -0.07), 0.06)
    return made
