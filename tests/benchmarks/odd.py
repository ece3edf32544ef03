"""Drawings that are no digits, kept for development: how many of each kind are refused?

    python tests/benchmarks/odd.py                     of the published run's file
    python tests/benchmarks/odd.py --run latest --each 60

Neither in training (``non_digits.generate``) nor in the examination (``non_digits.drawings``): what
is changed about refusal is judged by these.
"""

import argparse

import numpy as np

from digits.evaluation import proportion
from digits.recognizer import Recognizer


def line(*points):
    return np.array(points, float)


def arc(x, y, wide, high, start, end, n=30):
    """Part of an ellipse about (x, y), from one angle in degrees to another."""
    turn = np.deg2rad(np.linspace(start, end, n))
    return np.column_stack([x + wide * np.cos(turn), y + high * np.sin(turn)])


def ring(x, y, wide, high):
    return arc(x, y, wide, high, 0, 360, 40)


def cloud(rng):
    bumps = arc(85, 160, 35, 30, 90, 270, 12), arc(120, 115, 40, 35, 180, 330, 14)
    more = arc(185, 120, 40, 35, 220, 390, 14), arc(215, 165, 28, 28, -60, 90, 12)
    return [np.concatenate([*bumps, *more, line((85, 190))])]


def drop(rng):
    tip = line((140, 40))
    return [np.concatenate([tip, arc(140, 170, rng.uniform(45, 70), 60, -40, 220), tip])]


def fish(rng):
    body = arc(125, 140, 85, 50, 20, 340)
    return [np.concatenate([body, line((240, 90), (240, 190)), body[:1]])]


def umbrella(rng):
    roof = np.concatenate([arc(140, 140, 100, 90, 180, 360, 20), line((40, 140))])
    return [roof, np.concatenate([line((140, 140), (140, 225)), arc(120, 225, 20, 18, 0, 180, 8)])]


def bean(rng):
    turn = np.linspace(0, 2 * np.pi, 60)
    bent = 60 * np.sin(turn) + rng.uniform(35, 60) * np.cos(2 * turn)
    return [140 + np.column_stack([95 * np.cos(turn), bent])]


def sun(rng):
    rays = [np.array([np.cos(a), np.sin(a)]) for a in np.arange(8) * np.pi / 4]
    return [ring(140, 140, 40, 40), *(140 + np.array([60 * ray, 95 * ray]) for ray in rays)]


KINDS = {
    "drop": drop,
    "cloud": cloud,
    "fish": fish,
    "umbrella": umbrella,
    "bean": bean,
    "sun": sun,
    "bolt": lambda rng: [
        line((165, 40), (95, 150), (140, 150), (110, 245), (195, 120), (145, 120), (165, 40))
    ],
    "cup": lambda rng: [
        line((70, 80), (80, 220), (170, 220), (180, 80), (70, 80)),
        arc(182, 140, 35, 35, -80, 80, 12),
    ],
    "flag": lambda rng: [line((80, 245), (80, 40), (200, 75), (80, 120))],
    "ladder": lambda rng: [
        line((100, 40), (100, 240)),
        line((180, 40), (180, 240)),
        *(line((100, y), (180, y)) for y in (80, 125, 170, 215)),
    ],
    "mountains": lambda rng: [line((30, 220), (90, 90), (140, 180), (190, 70), (250, 220))],
    "arch": lambda rng: [
        np.concatenate(
            [line((60, 240)), arc(140, 130, 80, rng.uniform(50, 90), 180, 360), line((220, 240))]
        )
    ],
    "hourglass": lambda rng: [line((80, 50), (200, 50), (80, 230), (200, 230), (80, 50))],
    "butterfly": lambda rng: [line((70, 70), (210, 210), (210, 70), (70, 210), (70, 70))],
    "envelope": lambda rng: [
        line((50, 80), (230, 80), (230, 200), (50, 200), (50, 80)),
        line((50, 80), (140, 150), (230, 80)),
    ],
    "smile": lambda rng: [arc(140, 90, 90, rng.uniform(60, 120), 15, 165)],
    "corner": lambda rng: [
        line((rng.uniform(70, 90), 50), (80, 220), (220, rng.uniform(200, 225)))
    ],
    "bracket": lambda rng: [line((180, 40), (110, 40), (110, 240), (180, 240))],
    "wedge": lambda rng: [
        line((rng.uniform(190, 220), 60), (70, 140), (210, rng.uniform(200, 225)))
    ],
    "key": lambda rng: [
        ring(90, 110, 35, 35),
        line((125, 110), (240, 110), (240, 150)),
        line((205, 110), (205, 140)),
    ],
    "tee": lambda rng: [line((60, 60), (220, 60)), line((rng.uniform(130, 150), 60), (140, 240))],
    "glasses": lambda rng: [
        ring(85, 140, 40, 40),
        ring(195, 140, 40, 40),
        line((125, 135), (155, 135)),
    ],
    "hash": lambda rng: [
        line((60, 140), (220, 140)),
        line((60, 100), (220, 100)),
        line((110, 60), (110, 180)),
        line((170, 60), (170, 180)),
    ],
    "peace": lambda rng: [
        ring(140, 140, 90, 90),
        line((140, 50), (140, 230)),
        line((140, 140), (80, 205)),
        line((140, 140), (200, 205)),
    ],
}


def drawings(each: int, seed: int) -> dict[str, list[list[np.ndarray]]]:
    """``each`` of every kind: stretched, turned a little, drawn by an unsteady hand."""
    found = {}
    for k, (kind, make) in enumerate(KINDS.items()):
        rng, found[kind] = np.random.default_rng([seed, k]), []
        for _ in range(each):
            strokes, size = make(rng), rng.uniform(0.75, 1.1, 2)
            angle, shake = (
                np.deg2rad(rng.uniform(-12, 12)),
                5 if max(map(len, strokes)) < 12 else 1.5,
            )
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            moved = [
                ((stroke - 140) * size + rng.normal(0, shake, stroke.shape)) @ turn.T + 140
                for stroke in strokes
            ]
            found[kind].append([np.clip(stroke, 2, 278).astype(np.float32) for stroke in moved])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference")
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    recognizer, every = Recognizer.load(run=options.run), []
    for kind, some in drawings(options.each, options.seed).items():
        refused = [not recognizer.predict_strokes(strokes).accepted for strokes in some]
        every += refused
        print(f"{kind:12} {np.mean(refused):.0%}")
    told = proportion(sum(every), len(every))
    print(f"all          {told['share']:.1%} of {told['n']:,}, {told['interval']}")


if __name__ == "__main__":
    main()
