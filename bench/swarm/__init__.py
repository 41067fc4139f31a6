"""Many simulated agents on one machine: `agent` is what they are, `head` an executor that has them for nodes.

All of the head is real, and so is the wire with its encryption; only the nodes and their work are not.
"""
