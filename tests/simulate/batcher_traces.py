"""Scripted runs of a dynamic batcher, with batches and times worked out by hand from Triton's rules.

A request is ``name@time``, then in any order ``xSIZE``, ``pLEVEL`` and ``tTIMEOUT``; a batch or a refusal is
``time:names``. Times are s. Every batch takes ``service``; requests of one time arrive in the order written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from planner.simulate.batcher import QueuePolicy


@dataclass(frozen=True)
class Trace:
    """A run: settings, arrivals, and what must come of them."""

    claim: str
    arrivals: str
    batches: str
    refused: str = ""
    service: float = 10.0
    instances: int = 1
    settings: dict[str, Any] = field(default_factory=dict)


def trace(claim: str, arrivals: str, batches: str, refused: str = "", **settings: Any) -> Trace:
    """Return a trace; ``max_batch`` is 8 unless said otherwise."""
    instances, service = settings.pop("instances", 1), settings.pop("service", 10.0)
    return Trace(claim, arrivals, batches, refused, service, instances, {"max_batch": 8} | settings)


NO_DELAY = [
    trace("a free instance takes a lone request at once", "a@0", "0:a"),
    trace("requests of one moment share a batch", "a@0 b@0 c@0", "0:abc"),
    trace("what comes during a batch leaves together after it", "a@0 b@1 c@2", "0:a 10:bc"),
    trace("no batch exceeds the maximum", "a@0 b@1 c@2 d@3", "0:a 10:bc 20:d", max_batch=2),
    trace(
        "a preferred size is taken though more wait",
        "a@0 b@1 c@1 d@1 e@1 f@1 g@1", "0:a 10:bcde 20:fg", preferred=(4,),
    ),
    trace(
        "of several preferred sizes the largest that can be formed is taken",
        "a@0 b@1 c@1 d@1 e@1 f@1", "0:a 10:bcde 20:f", preferred=(2, 4),
    ),
    trace(
        "beyond the largest preferred size the rest waits for the next batch",
        "a@0 b@1 c@1 d@1 e@1 f@1", "0:a 10:bc 20:de 30:f", preferred=(2,),
    ),
    trace("without a delay fewer than preferred leave at once", "a@0 b@1 c@1", "0:a 10:bc", preferred=(4,)),
    trace("each free instance takes the next request", "a@0 b@1 c@2", "0:a 1:b 10:c", instances=2),
    trace("two instances share what comes at once", "a@0 b@0 c@0", "0:ab 0:c", instances=2, max_batch=2),
    trace(
        "a batch counts the sizes of its requests", "a@0 b@1x2 c@1x2 d@1", "0:a 10:bc 20:d", max_batch=4
    ),
    trace(
        "a request that does not fit ends the batch before it, and none overtakes it",
        "a@0 b@1x3 c@1x2 d@1", "0:a 10:b 20:cd", max_batch=4,
    ),
    trace(
        "before a jump over the largest preferred size the batch is cut",
        "a@0 b@1 c@1x2 d@1", "0:a 10:b 20:c 30:d", preferred=(2,),
    ),
    trace("without levels priorities are ignored", "a@0 b@1p2 c@1p1", "0:a 10:b 20:c", max_batch=1),
    trace(
        "a size passed through in the middle counts though later ones do not hit any",
        "a@0 b@1x2 c@1x3 d@1x2", "0:a 10:b 20:c 30:d", preferred=(2, 4),
    ),
]  # fmt: skip

DELAY = [
    trace("a lone request waits for the delay", "a@0", "5:a", max_delay=5.0),
    trace("a full batch does not wait", "a@0 b@3", "3:ab", max_batch=2, max_delay=5.0),
    trace("a preferred batch does not wait", "a@0 b@3", "3:ab", preferred=(2,), max_delay=5.0),
    trace("after the delay what is there leaves", "a@0 b@3", "5:ab", max_delay=5.0),
    trace(
        "after a batch the delay counts from the oldest that is left",
        "a@0 b@3 c@4", "3:ab 9:c", preferred=(2,), max_delay=5.0, instances=2,
    ),
    trace(
        "the delay counts from the arrival, not from the instance becoming free",
        "a@0 b@6 c@14", "5:a 15:bc", max_delay=5.0,
    ),
    trace(
        "once the delay is over preferred sizes do not count",
        "a@0 b@0 c@1 d@1 e@1", "0:ab 10:cde", preferred=(2,), max_delay=5.0,
    ),
    trace(
        "until then they do",
        "a@0 b@0 c@1 d@1 e@1", "0:ab 10:cd 21:e", preferred=(2,), max_delay=20.0,
    ),
    trace(
        "a free instance waits with a batch that is not preferred",
        "a@0 b@0 c@0 d@0 e@5 f@5", "0:abcd 25:ef", preferred=(4,), max_delay=20.0,
    ),
    trace(
        "an arrival that completes a preferred size ends the wait",
        "a@0 b@0 c@0 d@0 e@5 f@5 g@12 h@13", "0:abcd 13:efgh", preferred=(4,), max_delay=20.0,
    ),
    trace(
        "a request that jumps over the preferred size sends those before it",
        "a@0x2 b@1x2", "1:a 21:b", max_batch=4, preferred=(3,), max_delay=20.0,
    ),
    trace(
        "a request that does not fit sends those before it",
        "a@0x3 b@2x2", "2:a 22:b", max_batch=4, max_delay=20.0,
    ),
    trace("an arrival at the end of the delay goes along", "a@0 b@5", "5:ab", max_delay=5.0),
    trace("two instances wait one batch at a time", "a@0 b@1 c@2", "1:ab 7:c", max_batch=2, max_delay=5.0,
          instances=2),
    trace(
        "a long queue leaves in full batches when the delay is over",
        "a@0 b@0 c@0 d@0 e@1 f@1 g@1 h@1 i@1 j@1 k@1", "0:abcd 10:efgh 20:ijk", max_batch=4, max_delay=5.0,
    ),
    trace("the smallest preferred size leaves at once", "a@0 b@2", "2:ab", preferred=(2, 4), max_delay=10.0),
    trace("a request of a preferred size does not wait", "a@0x4", "0:a", preferred=(4,), max_delay=5.0),
    trace(
        "an old request at the head sends a mixed batch beyond the preferred size",
        "a@0 b@0 c@2 d@8 e@9", "0:ab 10:cde", preferred=(2,), max_delay=8.0,
    ),
]  # fmt: skip

LEVELS: dict[str, Any] = {"priority_levels": 2, "default_priority": 2}
PRIORITIES = [
    trace("urgent requests come first", "a@0 b@1 c@2 d@3p1", "0:a 10:db 20:c", max_batch=2, **LEVELS),
    trace("within a level arrival counts", "a@0 b@1p2 c@2p1 d@3p2 e@4p1", "0:a 10:cebd", **LEVELS),
    trace(
        "a request without a level gets the default",
        "a@0 b@1p3 c@2 d@3p1", "0:a 10:d 20:c 30:b", max_batch=1, priority_levels=3, default_priority=2,
    ),
    trace(
        "urgent requests that keep coming starve the others",
        "a@0 b@1p2 c@5p1 d@15p1", "0:a 10:c 20:d 30:b", max_batch=1, **LEVELS,
    ),
    trace("what runs is not interrupted", "a@0p2 b@1p1", "0:a 10:b", **LEVELS),
    trace(
        "the delay is that of the oldest request of all levels in the batch",
        "a@0p2 b@3p1", "5:ba", max_delay=5.0, **LEVELS,
    ),
    trace(
        "an urgent request takes a place in a batch that waits",
        "a@0 b@0 c@1 d@11p1", "0:ab 11:dc", max_batch=2, max_delay=10.0, **LEVELS,
    ),
    trace("an unknown level is the default", "a@0 b@1p9 c@2p1", "0:a 10:c 20:b", max_batch=1, **LEVELS),
]  # fmt: skip

REJECT5, DELAY5 = QueuePolicy(default_timeout=5.0), QueuePolicy(default_timeout=5.0, timeout_action="delay")
OVERRIDE8 = QueuePolicy(default_timeout=8.0, allow_timeout_override=True)
POLICIES = [
    trace(
        "a full queue refuses on arrival",
        "a@0 b@1 c@2", "0:a 10:b", "2:c", max_batch=1, queue=QueuePolicy(max_queue_size=1),
    ),
    trace(
        "there is room again after a batch",
        "a@0 b@1 c@2 d@11", "0:a 10:b 20:d", "2:c", max_batch=1, queue=QueuePolicy(max_queue_size=1),
    ),
    trace(
        "every level has a queue of its own",
        "a@0p1 b@1p1 c@2p2 d@3p2", "0:a 10:b 20:c", "3:d",
        max_batch=1, queue=QueuePolicy(max_queue_size=1), **LEVELS,
    ),
    trace("a timeout refuses a request while it waits", "a@0 b@1", "0:a", "6:b", queue=REJECT5),
    trace(
        "a timeout at the moment when an instance is free comes first",
        "a@0 b@1", "0:a", "10:b", queue=QueuePolicy(default_timeout=9.0),
    ),
    trace(
        "a timeout shorter than the delay refuses what waits for a batch",
        "a@0 b@2", "", "4:a 6:b", max_delay=10.0, queue=QueuePolicy(default_timeout=4.0),
    ),
    trace(
        "without its refused head a batch waits for the delay of the next",
        "a@0t4 b@2", "10:b", "4:a", max_delay=8.0,
        queue=QueuePolicy(default_timeout=20.0, allow_timeout_override=True),
    ),
    trace("a deferred request goes behind", "a@0 b@1 c@7", "0:a 10:c 20:b", max_batch=1, queue=DELAY5),
    trace("a deferred request that is alone is still executed", "a@0 b@1", "0:a 10:b", queue=DELAY5),
    trace(
        "a deferred request stays before less urgent levels",
        "a@0p1 b@1p1 c@7p2 d@8p1", "0:a 10:d 20:b 30:c", max_batch=1, queue=DELAY5, **LEVELS,
    ),
    trace(
        "deferred and later requests share a batch, the deferred last",
        "a@0 b@1 c@7", "0:a 10:cb", queue=DELAY5,
    ),
    trace("a request may ask for a shorter timeout", "a@0 b@1t3 c@1", "0:a", "4:b 9:c", queue=OVERRIDE8),
    trace("a request may not ask for a longer one", "a@0 b@1t20", "0:a", "9:b", queue=OVERRIDE8),
    trace(
        "where overriding is off the request's own timeout is ignored",
        "a@0 b@1t3", "0:a", "9:b", queue=QueuePolicy(default_timeout=8.0),
    ),
    trace(
        "without a default there is nothing to shorten",
        "a@0 b@1t3", "0:a 10:b", queue=QueuePolicy(allow_timeout_override=True),
    ),
    trace(
        "a level can have a policy of its own",
        "a@0p1 b@1p2 c@2p1", "0:a 10:c", "6:b", queues={2: REJECT5}, **LEVELS,
    ),
    trace(
        "deferred requests still count in the length of their queue",
        "a@0 b@1 c@5", "0:a 10:b", "5:c",
        queue=QueuePolicy(max_queue_size=1, default_timeout=2.0, timeout_action="delay"),
    ),
]  # fmt: skip

TRACES = [*NO_DELAY, *DELAY, *PRIORITIES, *POLICIES]
