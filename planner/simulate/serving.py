"""Simulate the requests of a serving plan, from their arrival at the host to their last byte."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import simpy
from simpy.events import NORMAL

from planner.errors import SimulationError
from planner.placement import ServingPlan, ServingProblem, serving_model
from planner.placement.flows import serving_flows
from planner.placement.pools import PlacedPool, cache_holders
from planner.simulate.alarm import Alarm
from planner.simulate.batching import Replica
from planner.simulate.cabling import Cabling
from planner.simulate.disaggregated import CacheMoves, pooled_network
from planner.simulate.host_path import Host, host_plan
from planner.simulate.iterations import IterationTimes
from planner.simulate.link_use import link_uses
from planner.simulate.measures import PARTS, RequestRecords, job_record, refuse_overload
from planner.simulate.network import Network
from planner.simulate.outcome import JobOutcome, beginning
from planner.simulate.requests import draw_requests
from planner.simulate.result import LinkUse, TimelineSpan
from planner.simulate.routing import LeastOutstanding, Policy, make_routing
from planner.simulate.sequence import Limits, Request
from planner.simulate.statistics import named_stream
from planner.topology import Router


def simulate_serving(
    problem: ServingProblem,
    plan: ServingPlan,
    *,
    seed: int = 0,
    requests: int = 4000,
    trace: Path | None = None,
    router: Router | None = None,
    routing: Policy = "least-outstanding",
) -> JobOutcome:
    """Simulate a number of requests of a serving job.

    Parameters
    ----------
    requests
        How many arrive; those of the warm-up and of the cool-down do not count in the figures.
    trace
        File of the traffic process ``trace``; by default the one that the job names.
    routing
        How requests are divided among replicas; with pools, among those that compute prompts.

    Raises
    ------
    SimulationError
        If the plan cannot keep up with the offered rate, or cannot hold a mean request.
    """
    if requests < 1:
        raise SimulationError("simulate at least one request")
    run = _Run(problem, plan, seed, requests, trace, router, routing)
    records = run.finish()
    refuse_overload(problem.job, records)
    job = job_record(problem.job, records, run.utilisation(), run.timeline())
    return JobOutcome(job, run.links(), run.env.now, records)


class _Run:
    """The replicas of a job, and the requests that pass through them."""

    def __init__(
        self,
        problem: ServingProblem,
        plan: ServingPlan,
        seed: int,
        count: int,
        trace: Path | None,
        router: Router | None,
        routing: Policy,
    ) -> None:
        self.problem, self.plan, self.env = problem, plan, simpy.Environment()
        pools = plan.pools()
        limits = [cache_limits(problem, pool, generates=pool is pools[-1]) for pool in pools]
        if trace is None and problem.job.traffic.trace is not None:
            trace = Path(problem.job.traffic.trace)
        most = min(limit.cache_tokens for limit in limits)
        self.requests = draw_requests(problem, count, seed, most, trace)
        self.cabling = Cabling(router or Router(problem.topology))
        placed = [replica for pool in pools for replica in pool.replicas]
        hosts = [host_plan(problem, replica, self.cabling) for replica in placed]
        self._entries = len(pools[0].replicas)
        models = [serving_model(problem, pool.strategy, PlacedPool.of(pool).gpus()) for pool in pools]
        if plan.prefill is None:
            self.network = Network(self.env, self.cabling.specs(), self.cabling.groups())
            self._members = [[index] for index in range(len(self.network.links))]
        else:
            first, second = (cache_holders(pool) for pool in pools)
            joined = pooled_network(self.cabling, first, second, float(models[-1].kv_per_token()[0]), hosts)
            self._moves, hosts = CacheMoves(joined.ways), joined.hosts
            self.network = Network(self.env, joined.reduced.links, joined.reduced.groups)
            self._members = joined.reduced.members
        names = [replica.name for replica in placed]
        self.hosts = [
            Host(self.env, name, host, self.network) for name, host in zip(names, hosts, strict=True)
        ]
        self.replicas = [
            Replica(self.env, replica.name, times, limit)
            for pool, model, limit in zip(pools, models, limits, strict=True)
            for times in [IterationTimes(problem, model, limit.max_batch, limit.max_tokens)]
            for replica in pool.replicas
        ]
        self._under_way = [0] * len(names)
        self._arrivals: list[float] = self.requests.arrivals.tolist()
        self._computed: list[int] = self.requests.computed.tolist()
        self._prompts: list[int] = self.requests.prompts.tolist()
        self._outputs: list[int] = self.requests.outputs.tolist()
        self._routing = make_routing(routing, seed, self._prompts, self._entries)
        self._second = LeastOutstanding(
            named_stream(seed, "decode routing").random(len(self.requests)).tolist()
        )
        self._rows: list[tuple[float, ...]] = [()] * len(self.requests)

    def finish(self) -> RequestRecords:
        """Let all requests arrive and be served."""
        self._await(0)
        self.env.run()
        first, finish, *parts = np.asarray(self._rows).T
        arrivals = self.requests.arrivals
        named = dict(zip(PARTS, parts, strict=True))
        outputs = self.requests.outputs.astype(float)
        return RequestRecords(arrivals, outputs, first - arrivals, finish - arrivals, named)

    def _await(self, index: int) -> None:
        """Have a request arrive when its time comes."""
        if index < len(self._arrivals):
            delay = max(self._arrivals[index] - self.env.now, 0.0)
            Alarm(self.env, partial(self._arrive, index), delay, NORMAL)

    def _arrive(self, index: int, _: simpy.Event) -> None:
        place = self._routing.choose(index, self._prompts[index], self._under_way[: self._entries])
        handed_on = self._entries < len(self.replicas) and self._outputs[index] > 1
        outputs = 1 if handed_on else self._outputs[index]
        request = Request(self.env, self._computed[index], self._prompts[index], outputs)
        self._under_way[place] += 1
        visit = _Visit(self.hosts[place], self.replicas[place], request, partial(self._leave, index, place))
        if handed_on:
            visit.hand_on = partial(self._hand_on, index, place)
        visit.begin()
        self._await(index + 1)

    def _hand_on(self, index: int, place: int, visit: _Visit) -> None:
        """Send the cache of a prompt to a replica that generates the rest: the first token is its input."""
        prompt = self._prompts[index]
        chosen = self._second.choose(index, prompt, self._under_way[self._entries :])
        second = self._entries + chosen
        self._under_way[place] -= 1
        self._under_way[second] += 1
        rest = Request(self.env, 1, prompt + 1, self._outputs[index] - 1)
        visit.end = partial(self._leave, index, second)
        sent = self._moves.send(self.network, place, chosen, prompt)
        assert sent.callbacks is not None
        sent.callbacks.append(lambda _: visit.go_on(self.hosts[second], self.replicas[second], rest))

    def _leave(self, index: int, place: int, visit: _Visit) -> None:
        self._under_way[place] -= 1
        self._rows[index] = visit.row()

    def utilisation(self) -> dict[str, float]:
        """Return the busy share of every GPU group, pool and copy engine over the whole run."""
        found = {}
        for host, replica in zip(self.hosts, self.replicas, strict=True):
            found[f"{replica.name} gpu"] = replica.busy / self.env.now
            for name, pool in host.pools.items():
                found[f"{replica.name} {name}"] = pool.busy / self.env.now / host.workers[name]
            for name, engine in host.engines.items():
                found[f"{replica.name} {name}"] = engine.busy / self.env.now
        return found

    def timeline(self) -> list[TimelineSpan]:
        """Return what the servers did first, as many spans as a report shows."""
        servers = [replica.spans for replica in self.replicas]
        return beginning(itertools.chain(*servers, *(host.spans() for host in self.hosts)))

    def links(self) -> list[LinkUse]:
        """Return the use of the links: host traffic as simulated, that inside the model as a constant."""
        background = self._model_traffic()
        utilisation = self.network.utilisation()
        waiting = dict(enumerate(utilisation.waiting.tolist()))
        cables, members = self.cabling.cables, self._members
        return link_uses(cables, members, utilisation, waiting, background, lambda _: True)

    def _model_traffic(self) -> dict[int, float]:
        """Return the bytes by link that tensor and pipeline parts exchanged for all tokens."""
        traffic = self.problem.job.traffic
        per_second = traffic.rate * (traffic.prompt.mean * (1.0 - traffic.prefix) + traffic.output.mean)
        seconds = float(self.requests.computed.sum() + self.requests.outputs.sum()) / per_second
        carried: dict[int, float] = defaultdict(float)
        for flow in serving_flows(self.problem, self.plan):
            if flow.cause not in ("host", "kv"):
                for link in self.cabling.route(flow.source, flow.target):
                    carried[link] += flow.size * seconds
        return carried


class _Visit:
    """One request on its way through a host and its replica, noting when it passes from part to part."""

    __slots__ = (
        "answered",
        "arrived",
        "end",
        "hand_on",
        "host",
        "left",
        "moved",
        "prepared",
        "replica",
        "request",
        "returned",
    )

    def __init__(self, host: Host, replica: Replica, request: Request, end: Callable[[_Visit], None]) -> None:
        self.host, self.replica, self.request, self.end = host, replica, request, end
        self.arrived = self.prepared = self.answered = self.returned = self.left = host.env.now
        self.hand_on: Callable[[_Visit], None] | None = None
        self.moved = 0.0

    def begin(self) -> None:
        """Begin with the CPU stages."""
        self.host.before(self._prepared)

    def row(self) -> tuple[float, ...]:
        """Return the times of the first token and of the end, and how long each of `PARTS` took, s."""
        request = self.request
        return (
            request.first,
            self.left,
            self.prepared - self.arrived + self.left - self.returned,
            request.queued - self.prepared + self.returned - self.answered + self.moved,
            request.started - request.queued,
            request.first - request.started,
            self.answered - request.first - self.moved,
        )

    def _prepared(self) -> None:
        self.prepared = self.host.env.now
        self.host.inwards(self._submit)

    def _submit(self) -> None:
        callbacks = self.request.done.callbacks
        assert callbacks is not None
        callbacks.append(self._answered)
        self.replica.submit(self.request)

    def go_on(self, host: Host, replica: Replica, rest: Request) -> None:
        """Generate the rest of the answer on another replica, now that the cache of the prompt is there."""
        self.moved = host.env.now - self.answered
        self.host, self.hand_on = host, None
        assert rest.done.callbacks is not None
        rest.done.callbacks.append(self._answered)
        replica.submit(rest)

    def _answered(self, _: simpy.Event) -> None:
        self.answered = self.host.env.now
        if self.hand_on is not None:
            self.hand_on(self)
            return
        self.host.outwards(self._returned)

    def _returned(self) -> None:
        self.returned = self.host.env.now
        self.host.after(self._left)

    def _left(self) -> None:
        self.left = self.host.env.now
        self.end(self)


def cache_limits(problem: ServingProblem, plan: ServingPlan, *, generates: bool = True) -> Limits:
    """Return what a replica of a plan without pools, or of one pool, can hold beside its weights.

    Parameters
    ----------
    generates
        Whether it holds answers too.

    Raises
    ------
    SimulationError
        If not even one mean request fits.
    """
    costs = serving_model(problem, plan.strategy, plan.gpus())
    batching, traffic = plan.batching, problem.job.traffic
    room = problem.capacity - problem.calibration.number("context_bytes") - float(costs.weights()[0])
    room -= float(costs.working(float(batching.max_tokens))[0])
    copies = plan.strategy.adp
    tokens = int(max(room, 0.0) / float(costs.kv_per_token()[0])) * copies
    images = traffic.images * (problem.model.vision.tokens if problem.model.vision else 0)
    need = traffic.prompt.mean + images + (traffic.output.mean if generates else 0.0)
    if tokens < need:
        raise SimulationError(
            f"job {problem.job.name!r}: the cache of a replica holds {tokens} tokens, a mean request needs "
            f"{need:.0f}; raise tp, or lower batching.max_tokens"
        )
    return Limits(batching.max_batch, batching.max_tokens * copies, tokens, batching.window)
