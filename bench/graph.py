"""A workflow in the style of Montage, which makes one image of many: tasks with run times, the same each time."""

import random
from typing import NamedTuple

LONGEST = 0.02  # seconds


class Step(NamedTuple):
    """A task: how long it takes, and the places of those before it that it needs."""

    seconds: float
    parents: tuple[int, ...]


def montage(tasks: int) -> list[Step]:
    """Give about as many steps, each after its parents.

    Images are projected; where two overlap, their difference is fitted; a model of all differences says how to correct
    each image; the corrected ones are added. So there are two wide stages with all to all between them.
    """
    width = max(2, (tasks - 4) // 4)
    draw = random.Random(1)
    steps: list[Step] = []

    def add(share: float, *parents: int) -> int:
        steps.append(Step(round(draw.uniform(0.5, 1) * share * LONGEST, 6), parents))
        return len(steps) - 1

    images = [add(0.25) for _ in range(width)]
    differences = [add(0.05, images[place - back], images[place]) for place in range(width) for back in (1, 2)]
    model = add(1.0, add(0.5, *differences))
    corrected = [add(0.1, image, model) for image in images]
    add(1.0, add(0.2, *corrected))
    return steps


def shortest(steps: list[Step], workers: int) -> float:
    """Give the seconds that no number of ideal workers like these can beat: the longest chain, or the work of each."""
    ends: list[float] = []
    for step in steps:
        ends.append(step.seconds + max((ends[parent] for parent in step.parents), default=0.0))
    return max(max(ends), sum(step.seconds for step in steps) / workers)
