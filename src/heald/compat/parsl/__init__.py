"""Parsl's names over heald's public API: scripts written for Parsl run as they are.

`name.py` says which of Parsl's modules and names are served, and by what. Nothing here is imported before it is used.
"""
