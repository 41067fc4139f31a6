"""Commands that hand files on: each writes some, one joins them, a function reads what came of it."""

import parsl
from config import config
from parsl import File, bash_app, python_app


@bash_app
def write(number, outputs=()):
    return f"seq {number} > {outputs[0]}"


@bash_app
def join(inputs=(), outputs=()):
    return f"cat {' '.join(str(file) for file in inputs)} > {outputs[0]}"


@python_app
def total(inputs=()):
    with open(inputs[0]) as file:
        return sum(map(int, file))


with parsl.load(config):
    parts = [write(number, outputs=[File(f"part-{number}.txt")]) for number in range(1, 11)]
    joined = join(inputs=[part.outputs[0] for part in parts], outputs=[File("joined.txt")])
    print(total(inputs=[joined.outputs[0]]).result())
