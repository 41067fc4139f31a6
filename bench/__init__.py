"""heald against its peers: one harness, one adapter a system, ratios taken in one run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
