"""Tasks on the nodes of batch jobs: one agent a node, and the head that they all talk to.

`executor` is what users see. In the head, `pool` decides with `run.dispatch` what goes where, and `allocator` asks the
scheduler for nodes. In the batch job, `pilot` starts an `agent` on each node, which looks after a crew of workers
(`run.crew`). `dialogue` is all that head and agents say to each other; `bulk` carries large values between them.
"""
