"""A fake of OpenPBS: its commands over real processes on the hosts. It keeps to what version 23.06.06 was seen to do.

`command.py` is what the commands say, `server.py` the life of jobs; `submission.py`, `job.py` and `text.py` read, place
and print them.
"""
