"""Random small services with limits near what is possible, for the loop of solving and simulating."""

from __future__ import annotations

import random

from planner.errors import InfeasibleError
from planner.solve import Budget
from planner.study import Documents, solve
from tests.study.clusters import box, documents, topology


def service(gpus: int, cores: int, rate: float, prompt: str, output: str, slo: str, aim: str) -> Documents:
    """Return a service of a small model with two CPU stages on one machine."""
    job = (
        "- {kind: serving, name: chat, model: {dims: {name: small, layers: 16, hidden: 2048, ffn: 8192, "
        "heads: 8, kv_heads: 8, head_dim: 256, vocab: 32000}}, degrees: {pp: [1]}, "
        f"traffic: {{rate: {rate} req/s, prompt: {prompt}, output: {output}}}, objective: {aim}, slo: {slo}, "
        "before: [{name: tokenise, work: 2 ms, bytes_in: 2 kB, bytes_out: 2 kB}], "
        "after: [{name: detokenise, work: 1 ms, bytes_in: 1 kB, bytes_out: 1 kB}]}"
    )
    return documents(topology(box(gpus=gpus, cores=cores)), job)


def random_service(seed: int) -> Documents | None:
    """Return a service whose limits are some ratio of what is predicted without; ``None`` if none fits."""
    draw = random.Random(seed)  # no secret
    gpus = draw.choice((1, 2, 4, 4))
    shape = gpus, draw.choice((16, 24)), round(gpus * draw.uniform(1.0, 25.0), 1)
    prompt = f"{{mean: {draw.choice((100, 500, 2000))}, cv: {draw.choice((0.0, 0.5, 1.0))}}}"
    output = f"{{mean: {draw.choice((20, 80, 200))}, cv: {draw.choice((0.0, 0.5, 1.0))}}}"
    aim = draw.choice(("p99_latency", "gpus"))
    try:
        free = solve(service(*shape, prompt, output, "{}", "p99_latency"), Budget(20.0)).plan
    except InfeasibleError:
        return None
    name = draw.choice(("latency_p99", "ttft_p99", "tpot_p99"))
    limit = getattr(free.jobs[0].prediction, name) * draw.uniform(1.0, 1.3)
    return service(*shape, prompt, output, f"{{{name}: {limit * 1e6:.1f} us}}", aim)
