"""A first script: one function, one command, and what they give."""

import parsl
from config import config
from parsl import bash_app, python_app


@python_app
def hello(name):
    return f"hello {name}"


@bash_app
def shout(text, stdout):
    return f"echo '{text}' | tr a-z A-Z"


with parsl.load(config):
    greeting = hello("world")
    shout(greeting, stdout="shout.txt").result()
    with open("shout.txt") as file:
        print(greeting.result(), file.read().strip())
