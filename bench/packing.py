"""How well jobs of several sizes fill an allocation: the placement on a simulated clock, and the best that could be.

`python -m bench.packing` prints it; no other process and no time is needed but that of the placement itself.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from functools import cache
from heapq import heappop, heappush
from statistics import mean
from typing import NamedTuple

NODES = 3
CORES = 4  # of a node


class Job(NamedTuple):
    """So many whole nodes, for how long it runs, and what its user says that it will be at most."""

    nodes: int
    seconds: float
    walltime: float


# One of each sort that a study has: large and short, small and long, and some crumbs.
SEVEN = [Job(n, seconds, 1.5 * seconds) for n, seconds in ((2, 6), (1, 3), (2, 4), (1, 8), (3, 3), (1, 2), (1, 2))]


def mixed(count: int, seed: int) -> list[Job]:
    """Jobs of one to three nodes, most of them small; run times spread over a factor of twenty, guessed too high."""
    draw = random.Random(seed)
    jobs = []
    for _ in range(count):
        seconds = round(10 ** draw.uniform(0, 1.3), 2)
        jobs.append(Job(draw.choice((1, 1, 1, 2, 2, 3)), seconds, round(seconds * draw.uniform(1, 3), 2)))
    return jobs


def bound(jobs: Iterable[Job], nodes: int = NODES) -> float:
    """Give the seconds that no packing can beat.

    Jobs of all nodes run alone, those of more than half of them one after another; what is left at best spreads evenly,
    and the longest takes its time.
    """
    whole = sum(job.seconds for job in jobs if job.nodes == nodes)
    others = [job for job in jobs if job.nodes < nodes]
    wide = sum(job.seconds for job in others if 2 * job.nodes > nodes)
    even = sum(job.nodes * job.seconds for job in others) / nodes
    return whole + max(wide, even, max((job.seconds for job in others), default=0.0))


def best(jobs: Sequence[Job], nodes: int = NODES) -> float:
    """Give the seconds of the best packing of a few jobs.

    In the order in which its jobs start, each can start as early as it fits, none before the one ahead of it: so all
    orders are tried, of equal jobs only one.
    """
    floor, found = bound(jobs, nodes), float("inf")
    for order in set(itertools.permutations(jobs)):
        free = [0.0] * nodes  # when each node is free
        start = 0.0
        for job in order:
            start = max(start, sorted(free)[job.nodes - 1])
            for place in sorted(range(nodes), key=free.__getitem__)[: job.nodes]:
                free[place] = start + job.seconds
        found = min(found, max(free))
        if found <= floor:
            break
    return found


def packed(jobs: Sequence[Job], nodes: int = NODES) -> float:
    """Give the seconds that heald's placement needs for the jobs, submitted at once and in this order."""
    from heald.core.placement import Lease, Node, Placement
    from heald.core.resources import Resources

    placement = Placement()
    for number in range(nodes):
        placement.add_node(Node(f"n{number}", tuple(range(CORES)), group="a1"))
    for number, job in enumerate(jobs):
        placement.push(number, Resources(ranks=CORES * job.nodes, nodes=job.nodes, walltime=job.walltime))
    now = 0.0
    running: list[tuple[float, int, Lease]] = []
    while True:
        for number, lease in placement.place(now):
            heappush(running, (now + jobs[number].seconds, number, lease))
        if not running:
            return now
        now = running[0][0]
        while running and running[0][0] == now:
            placement.release(heappop(running)[2])


def idle(jobs: Iterable[Job], seconds: float, nodes: int = NODES) -> float:
    """Give the share of the nodes' time that is not used when all jobs take so long together."""
    return 1 - sum(job.nodes * job.seconds for job in jobs) / (nodes * seconds)


@cache
def seven() -> float:
    return best(SEVEN)


def main() -> None:
    """Print the figures."""
    orders = list(itertools.permutations(SEVEN))
    took = [packed(order) for order in random.Random(1).sample(orders, 500)]
    print(f"seven jobs, best packing {seven():g} s (bound {bound(SEVEN):g} s, idle {idle(SEVEN, seven()):.1%})")
    print(f"  as submitted: {packed(SEVEN) / seven() - 1:+.1%}")
    over = sorted(each / seven() - 1 for each in took)
    print(f"  in 500 orders: mean {mean(over):+.1%}, 90th percentile {over[450]:+.1%}, worst {over[-1]:+.1%}")
    ratios = []
    for seed in range(20):
        jobs = mixed(200, seed)
        ratios.append((packed(jobs) / bound(jobs) - 1, idle(jobs, packed(jobs)), idle(jobs, bound(jobs))))
    print(
        f"200 random jobs, 20 draws: mean {mean(each[0] for each in ratios):+.1%} over the bound, "
        f"worst {max(each[0] for each in ratios):+.1%}; idle {mean(each[1] for each in ratios):.1%}, "
        f"at the bound {mean(each[2] for each in ratios):.1%}"
    )


if __name__ == "__main__":
    main()
