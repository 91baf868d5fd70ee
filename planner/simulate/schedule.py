"""Pipeline schedules: what each stage computes, in which order, and what each piece of work waits for."""

from __future__ import annotations

from typing import Literal, NamedTuple

from planner.errors import SimulationError

Pass = Literal["forward", "backward", "weight"]


class Op(NamedTuple):
    """A pass of one micro-batch through one chunk of a stage's layers.

    Where backward passes are split, ``backward`` gives the gradients of inputs and ``weight`` those of
    weights.
    """

    kind: Pass
    micro_batch: int
    chunk: int


Schedule = list[list[Op]]
"""The work of every stage, in order."""


def pipeline_schedule(stages: int, virtual: int, num_micro_batches: int, *, split: bool = False) -> Schedule:
    """Return the schedule of a pipeline: 1F1B, ZB-H1, or interleaved with several chunks per stage.

    Parameters
    ----------
    virtual
        Chunks of layers per stage; chunk ``c`` of stage ``s`` holds part ``c * stages + s`` of the model.
    split
        Whether backward passes are split (ZB-H1), which needs one chunk per stage.

    Raises
    ------
    SimulationError
        If a number is below 1, or an interleaved schedule has micro-batches that ``stages`` does not divide.
    """
    if min(stages, virtual, num_micro_batches) < 1:
        raise SimulationError("a pipeline needs at least one stage, one chunk per stage and one micro-batch")
    if split:
        if virtual > 1:
            raise SimulationError("a zero-bubble schedule needs stages of one chunk; plan with virtual: 1")
        return [zero_bubble(stage, stages, num_micro_batches) for stage in range(stages)]
    if virtual == 1:
        return [one_f_one_b(stage, stages, num_micro_batches) for stage in range(stages)]
    if num_micro_batches % stages:
        raise SimulationError(
            f"an interleaved schedule needs micro-batches in groups of {stages}, one for each stage; "
            f"{num_micro_batches} are not; change dp or the micro-batch"
        )
    return [interleaved(stage, stages, virtual, num_micro_batches) for stage in range(stages)]


def one_f_one_b(stage: int, stages: int, num_micro_batches: int) -> list[Op]:
    """Return the work of a stage under 1F1B: fill, one forward and one backward in turn, drain [1]_.

    References
    ----------
    .. [1] D. Narayanan et al., "Memory-Efficient Pipeline-Parallel DNN Training", ICML 2021, section 3
       (PipeDream-Flush).
    """
    forwards = [Op("forward", index, 0) for index in range(num_micro_batches)]
    backwards = [Op("backward", index, 0) for index in range(num_micro_batches)]
    return _alternate(forwards, backwards, min(stages - stage - 1, num_micro_batches))


def zero_bubble(stage: int, stages: int, num_micro_batches: int) -> list[Op]:
    """Return the work of a stage under ZB-H1 [1]_: 1F1B, its backward passes split.

    The pass for the gradients of weights follows the backward pass of ``stage`` micro-batches later, so that
    the last stage hands its gradients on sooner and every stage fills the drain with what it has put off.
    Each stage keeps the activations of as many micro-batches as the first.

    References
    ----------
    .. [1] P. Qi et al., "Zero Bubble Pipeline Parallelism", ICLR 2024, section 2 and table 2.
    """
    work = []
    for op in one_f_one_b(stage, stages, num_micro_batches):
        work.append(op)
        if op.kind == "backward" and op.micro_batch >= stage:
            work.append(Op("weight", op.micro_batch - stage, 0))
    late = range(max(num_micro_batches - stage, 0), num_micro_batches)
    return work + [Op("weight", index, 0) for index in late]


def interleaved(stage: int, stages: int, virtual: int, num_micro_batches: int) -> list[Op]:
    """Return the work of a stage with several chunks, which groups of ``stages`` micro-batches pass [1]_.

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", SC 2021, section 2.2.
    """
    forwards, backwards = [], []
    for index in range(num_micro_batches * virtual):
        group, place = divmod(index, stages * virtual)
        chunk, member = divmod(place, stages)
        micro_batch = group * stages + member
        forwards.append(Op("forward", micro_batch, chunk))
        backwards.append(Op("backward", micro_batch, virtual - 1 - chunk))
    ahead = 2 * (stages - stage - 1) + (virtual - 1) * stages
    return _alternate(forwards, backwards, min(ahead, len(forwards)))


def _alternate(forwards: list[Op], backwards: list[Op], ahead: int) -> list[Op]:
    """Return ``ahead`` forwards, then one forward and one backward in turn, then the remaining backwards."""
    work = forwards[:ahead]
    for forward, backward in zip(forwards[ahead:], backwards, strict=False):
        work += (forward, backward)
    return work + backwards[len(forwards) - ahead :]


def next_op(stage: int, op: Op, stages: int, virtual: int) -> tuple[int, Op] | None:
    """Return the stage that the result of a piece of work goes to, and the work that it starts there.

    ``None`` for gradients of weights, and at the ends: the last forward starts its own backward, and the
    first backward ends the chain.
    """
    if op.kind == "weight":
        return None
    if op.kind == "forward":
        if stage + 1 < stages:
            return stage + 1, op
        return (0, op._replace(chunk=op.chunk + 1)) if op.chunk + 1 < virtual else None
    if stage > 0:
        return stage - 1, op
    return (stages - 1, op._replace(chunk=op.chunk - 1)) if op.chunk > 0 else None


def awaits_input(stage: int, op: Op, stages: int, virtual: int) -> bool:
    """Whether a piece of work needs something from another stage, or another chunk, before it can start."""
    if op.kind == "weight":
        return False
    if op.kind == "forward":
        return stage > 0 or op.chunk > 0
    return stage + 1 < stages or op.chunk + 1 < virtual
