"""A small map and reduce: points thrown at a quarter circle by many tasks, counted by twos up to one."""

import parsl
from config import config
from parsl import python_app


@python_app
def inside(seed, points):
    from random import Random

    throw = Random(seed).random
    return sum(throw() ** 2 + throw() ** 2 < 1 for _ in range(points))


@python_app
def add(one, other):
    return one + other


with parsl.load(config):
    counts = [inside(seed, 1000) for seed in range(64)]
    while len(counts) > 1:
        counts = [add(*pair) for pair in zip(counts[::2], counts[1::2], strict=True)]
    print(4 * counts[0].result() / 64_000)
