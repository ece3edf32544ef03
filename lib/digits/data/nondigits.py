"""Drawings that are no digits, to examine with: pen strokes, by other code than ``negatives``, which is for training."""

import numpy as np


def _dot(rng):
    return [rng.uniform(60, 220, (1, 2)) + rng.uniform(-0.5, 0.5, (3, 2))]  # a tap


def _flat_line(rng):
    y, tilt = rng.uniform(90, 190), rng.uniform(-12, 12)
    return [np.array([[rng.uniform(30, 70), y - tilt], [rng.uniform(210, 250), y + tilt]])]


def _cross(rng):
    middle, arm = rng.uniform(120, 160, 2), rng.uniform(60, 95)
    return [
        middle + np.array([[-arm, -arm], [arm, arm]]),
        middle + np.array([[-arm, arm], [arm, -arm]]),
    ]


def _zigzag(rng):
    teeth = int(rng.integers(6, 11))
    y = np.where(np.arange(teeth) % 2, 70, 210) + rng.uniform(-20, 20, teeth)
    return [np.column_stack([np.linspace(35, 245, teeth), y])]


def _spiral(rng):
    turn = np.linspace(0, 2 * np.pi * rng.uniform(2.6, 3.6), 90)
    angle, radius = turn + rng.uniform(0, 2 * np.pi), 100 * turn / turn[-1]
    return [140 + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])]


def _scribble(rng):
    corners = rng.uniform(35, 245, (int(rng.integers(9, 14)), 2))
    place = np.linspace(0, len(corners) - 1, 120)
    return [
        np.column_stack([np.interp(place, np.arange(len(corners)), corners[:, i]) for i in (0, 1)])
    ]


def _grid(rng):
    near, far = rng.uniform(85, 115, 2), rng.uniform(165, 195, 2)
    upright = [np.array([[x, 40], [x, 240]]) for x in (near[0], far[0])]
    level = [np.array([[40, y], [240, y]]) for y in (near[1], far[1])]
    return upright + level


def _check_mark(rng):
    knee, reach = rng.uniform((85, 170), (115, 215)), rng.uniform(80, 120)
    return [
        np.array(
            [
                knee - rng.uniform((30, 35), (55, 60)),
                knee,
                knee + (reach, -reach * rng.uniform(0.9, 1.4)),
            ]
        )
    ]


def _house(rng):
    left, right, eaves, floor = 70, rng.uniform(190, 215), rng.uniform(110, 135), 240
    walls = np.array([[left, eaves], [left, floor], [right, floor], [right, eaves], [left, eaves]])
    roof = np.array([[left, eaves], [(left + right) / 2, rng.uniform(35, 65)], [right, eaves]])
    door = np.array([[120, floor], [120, 190], [150, 190], [150, floor]])
    return [stroke + rng.normal(0, 4, stroke.shape) for stroke in (walls, roof, door)]


def _stick_figure(rng):
    turn, radius = np.linspace(0, 2 * np.pi, 40), rng.uniform(18, 28)
    head = np.column_stack([140 + radius * np.cos(turn), 60 + radius * np.sin(turn)])
    body = np.array([[140, 60 + radius], [140, 170]])
    arms = np.array(
        [
            [rng.uniform(80, 100), rng.uniform(100, 140)],
            [140, 115],
            [rng.uniform(180, 200), rng.uniform(100, 140)],
        ]
    )
    legs = np.array([[rng.uniform(90, 110), 245], [140, 170], [rng.uniform(170, 190), 245]])
    return [head, body, arms, legs]


def _moon(rng):
    turn = np.linspace(-1.5, 1.5, 40)
    outer = np.column_stack([90 + 120 * np.cos(turn), 140 + 100 * np.sin(turn)])
    inner = outer * (rng.uniform(0.3, 0.6), 1) + (90 * 0.5, 0)
    return [np.concatenate([outer, inner[::-1], outer[:1]])]


NON_DIGITS = {
    "dot": _dot,
    "flat line": _flat_line,
    "cross": _cross,
    "zigzag": _zigzag,
    "spiral": _spiral,
    "scribble": _scribble,
    "grid": _grid,
    "check mark": _check_mark,
    "house": _house,
    "stick figure": _stick_figure,
    "moon": _moon,
}
NEVER_SHOWN = (
    "check mark",
    "house",
    "stick figure",
    "moon",
)  # nothing like these is among ``digits.data.negatives``


def non_digits(each: int, seed: int) -> dict[str, list[list[np.ndarray]]]:
    """``each`` drawings of every kind in ``NON_DIGITS``: lists of strokes, (n, 2) float32 on a 280 x 280 canvas."""
    rng = np.random.default_rng(seed)
    return {
        kind: [[np.asarray(stroke, np.float32) for stroke in draw(rng)] for _ in range(each)]
        for kind, draw in NON_DIGITS.items()
    }


def side_by_side(drawings: list[list[np.ndarray]], each: int, seed: int) -> list[list[np.ndarray]]:
    """``each`` pairs of ``drawings``, strokes (n, 2) of single digits, next to each other on the canvas as if they were one."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(each):
        strokes, left = [], 20.0
        for i in rng.integers(len(drawings), size=2):
            points = np.concatenate(drawings[i])
            low, high = points.min(0), points.max(0)
            scale = 110 / max((high - low).max(), 1)
            strokes += [(stroke - low) * scale + (left, 80) for stroke in drawings[i]]
            left += (high[0] - low[0]) * scale + 15
        pairs.append(strokes)
    return pairs
