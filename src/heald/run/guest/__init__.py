"""Tasks on a Dask or Ray cluster that exists already: heald is a guest there, and holds what it uses.

An agent, the same as on the nodes of batch jobs (`run.cluster`), runs inside a worker of the other cluster for as long
as there is work. `landlord` says what is needed of such a cluster, `dask` and `ray` are the two that there are, `lodge`
is what runs there. `lodging` decides how many agents there should be, and `pool` looks after their tasks.
"""
