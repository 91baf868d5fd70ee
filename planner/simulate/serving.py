"""Simulate the requests of a serving plan, from their arrival at the host to their last byte."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simpy

from planner.errors import SimulationError
from planner.placement import ServingPlan, ServingProblem, serving_model
from planner.placement.flows import serving_flows
from planner.simulate.batching import Replica
from planner.simulate.cabling import Cabling
from planner.simulate.host_path import Host, host_plan
from planner.simulate.iterations import IterationTimes
from planner.simulate.link_use import link_uses
from planner.simulate.measures import PARTS, RequestRecords, job_record, refuse_overload
from planner.simulate.network import Network
from planner.simulate.outcome import JobOutcome, beginning
from planner.simulate.requests import draw_requests
from planner.simulate.result import LinkUse, TimelineSpan
from planner.simulate.routing import Policy, make_routing
from planner.simulate.sequence import Limits, Request
from planner.topology import Router

if TYPE_CHECKING:
    from simpy.events import ProcessGenerator


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
        How requests are divided among replicas.

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
    return JobOutcome(job, run.links(), run.env.now)


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
        model = serving_model(problem, plan.strategy, plan.gpus())
        limits = cache_limits(problem, plan)
        if trace is None and problem.job.traffic.trace is not None:
            trace = Path(problem.job.traffic.trace)
        self.requests = draw_requests(problem, count, seed, limits.cache_tokens, trace)
        self.cabling = Cabling(router or Router(problem.topology))
        hosts = [host_plan(problem, replica, self.cabling) for replica in plan.replicas]
        self.network = Network(self.env, self.cabling.specs(), self.cabling.groups())
        names = [replica.name for replica in plan.replicas]
        self.hosts = [
            Host(self.env, name, host, self.network) for name, host in zip(names, hosts, strict=True)
        ]
        times = IterationTimes(problem, model, limits.max_batch, limits.max_tokens)
        self.replicas = [Replica(self.env, name, times, limits) for name in names]
        self._under_way = [0] * len(names)
        self._prompts: list[int] = self.requests.prompts.tolist()
        self._routing = make_routing(routing, seed, self._prompts, len(names))
        self._rows = np.zeros((len(self.requests), 7))

    def finish(self) -> RequestRecords:
        """Let all requests arrive and be served."""
        self.env.process(self._arrive())
        self.env.run()
        first, finish, *parts = self._rows.T
        arrivals = self.requests.arrivals
        named = dict(zip(PARTS, parts, strict=True))
        outputs = self.requests.outputs.astype(float)
        return RequestRecords(arrivals, outputs, first - arrivals, finish - arrivals, named)

    def _arrive(self) -> ProcessGenerator:
        columns = (
            self.requests.arrivals,
            self.requests.computed,
            self.requests.prompts,
            self.requests.outputs,
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for index, (time, computed, prompt, output) in enumerate(rows):
            yield self.env.timeout(max(time - self.env.now, 0.0))
            self.env.process(self._serve(index, Request(self.env, computed, prompt, output)))

    def _serve(self, index: int, request: Request) -> ProcessGenerator:
        """Take one request through its host and its replica and note how long each part took."""
        env, place = self.env, self._routing.choose(index, self._prompts[index], self._under_way)
        host, arrived = self.hosts[place], self.env.now
        self._under_way[place] += 1
        yield from host.work(host.plan.before)
        prepared = env.now
        yield from host.move(host.plan.inwards)
        self.replicas[place].submit(request)
        yield request.done
        answered = env.now
        yield from host.move(host.plan.outwards)
        returned = env.now
        yield from host.work(host.plan.after)
        self._under_way[place] -= 1
        self._rows[index] = (
            request.first,
            env.now,
            prepared - arrived + env.now - returned,
            request.queued - prepared + returned - answered,
            request.started - request.queued,
            request.first - request.started,
            answered - request.first,
        )

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
        members = [[index] for index in range(len(self.network.links))]
        utilisation = self.network.utilisation()
        waiting = dict(enumerate(utilisation.waiting.tolist()))
        return link_uses(self.cabling.cables, members, utilisation, waiting, background, lambda _: True)

    def _model_traffic(self) -> dict[int, float]:
        """Return the bytes by link that tensor and pipeline parts exchanged for all tokens."""
        traffic = self.problem.job.traffic
        per_second = traffic.rate * (traffic.prompt.mean * (1.0 - traffic.prefix) + traffic.output.mean)
        seconds = float(self.requests.computed.sum() + self.requests.outputs.sum()) / per_second
        carried: dict[int, float] = defaultdict(float)
        for flow in serving_flows(self.problem, self.plan):
            if flow.cause != "host":
                for link in self.cabling.route(flow.source, flow.target):
                    carried[link] += flow.size * seconds
        return carried


def cache_limits(problem: ServingProblem, plan: ServingPlan) -> Limits:
    """Return what a replica can hold beside its weights.

    Raises
    ------
    SimulationError
        If not even one mean request fits.
    """
    costs = serving_model(problem, plan.strategy, plan.gpus())
    batching, traffic = plan.batching, problem.job.traffic
    room = problem.capacity - problem.calibration.number("context_bytes") - float(costs.weights()[0])
    room -= float(costs.working(float(batching.max_tokens))[0])
    tokens = int(max(room, 0.0) / float(costs.kv_per_token()[0]))
    images = traffic.images * (problem.model.vision.tokens if problem.model.vision else 0)
    need = traffic.prompt.mean + traffic.output.mean + images
    if tokens < need:
        raise SimulationError(
            f"job {problem.job.name!r}: the cache of a replica holds {tokens} tokens, a mean request needs "
            f"{need:.0f}; raise tp, or lower batching.max_tokens"
        )
    return Limits(batching.max_batch, batching.max_tokens, tokens, batching.window)
