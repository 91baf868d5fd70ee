"""Latency of prefill and decode on separate pools of workers (disaggregated serving)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.closed_loop import ClosedLoop, Latency, Policy
from planner.costs.engine import Tuning
from planner.workload import BYTES_PER_ELEMENT

FloatArray = NDArray[np.float64]
BUSIEST = 0.98


@dataclass(frozen=True)
class Pools:
    """A prefill pool and a decode pool that serve the same clients.

    Attributes
    ----------
    prefill, decode
        One worker of each pool under the load of all clients.
    prefill_workers, decode_workers : ndarray, shape (n,)
        Numbers of workers.
    link
        Rate at which a cache moves from pool to pool, bytes/s.
    """

    prefill: ClosedLoop
    decode: ClosedLoop
    prefill_workers: FloatArray
    decode_workers: FloatArray
    link: float

    def latency(self, tuning: Tuning, policy: Policy) -> Latency:
        """Return what clients see, s, shape (n,).

        Decoding meets no prompts. A prompt waits for the prefill pool as in M/D/1 at the rate of the closed
        loop (Pollaczek and Khinchine); past its capacity the pool sets the rate and clients queue before it.
        Then the cache moves at ``link``.
        """
        load, copies = self.decode.load, self.prefill.steps.degrees.adp
        prompt = self.prefill.prompt.time(tuning)
        prompt = prompt * load.prompt / np.minimum(load.prompt, self.prefill.chunk)
        model, element = self.decode.steps.model, BYTES_PER_ELEMENT[self.decode.steps.precisions.kv]
        move = load.prompt * model.layers * model.kv_width * element / self.link
        fixed = policy.first_token + move + policy.prompt * prompt
        batch = load.clients / self.decode_workers
        for _ in range(4):
            step = self.decode.parts(np.maximum(batch, 1.0)).time(tuning)[0]
            token = self.decode.token(step, policy)
            service = prompt / copies / self.prefill_workers
            cycle = np.maximum(fixed + load.output * token, load.clients * service)
            busy = np.minimum(load.clients * service / cycle, BUSIEST)
            queued = np.minimum(busy / (2.0 * (1.0 - busy)), load.clients / 2.0) * service
            ttft = np.maximum(fixed + queued, cycle - load.output * token)
            batch = load.clients * load.output * token / (ttft + load.output * token) / self.decode_workers
        return Latency(ttft, np.asarray(token), batch * self.decode_workers)
