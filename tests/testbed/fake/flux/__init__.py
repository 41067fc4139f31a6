"""A fake of Flux: its commands over real processes on the hosts, with an instance of its own in each batch job.

What it keeps to is in part recorded (version 0.88), in part read in Flux's manual. `submission.py` reads what a job
asks for, `job.py` places it, `instance.py` is its life, `command.py` what the commands say and `text.py` how.
"""
