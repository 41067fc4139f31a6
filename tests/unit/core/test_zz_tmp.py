import sys; sys.path.insert(0,"/work/main")
import msgspec
from hypothesis import given, settings
from .test_graph import steps, step, drain
from .conftest import Driver
from heald.core import codec
from heald.core.event import Opened, Failure
from heald.core.history import History
from heald.core.graph import Joined
from heald.run.recorder import _compact
from heald.run.value import payload_of
def norm(o):
    if isinstance(o,Failure): return (o.kind,o.message,o.chain)
    return payload_of(o) if o is not None else None
@settings(max_examples=300,deadline=None)
@given(steps)
def test(script):
    run=Driver()
    for a,n,o in script: step(run,a,n,o)
    h=History(); h.extend(run.events)
    h2=History()
    for f in _compact(h): h2.extend(codec.decode(f))
    assert list(h.records)==list(h2.records)
    for t,r in h.records.items():
        r2=h2.records[t]
        assert r2.attempt==r.attempt,(r,r2)
        if r.state.final:
            assert r2.state is r.state,(r,r2)
            a,b=norm(r.outcome),norm(r2.outcome)
            assert a==b or r.state.name=="cancelled" or a[0]=="dependency",(a,b)
            assert r2.usage==r.usage or r.usage is None,(r.usage,r2.usage)
        else: assert not r2.state.final,(r,r2)
