"""The plan in the words of the programs that carry it out: vLLM for serving, Megatron-LM for training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from planner.deploy.errors import DeployError
from planner.deploy.names import path_part
from planner.deploy.target import Program
from planner.placement.plan import ServingPlan, Strategy, TrainingPlan
from planner.workload import ServingJob, TrainingJob, Transformer

MOVED_CACHES = '--kv-transfer-config={"kv_connector":"NixlConnector","kv_role":"kv_both"}'
"""Lets servers of two pools hand caches on, both ways (vLLM, "NixlConnector Usage Guide")."""
UTILISATION = 0.90
MOST_UTILISATION = 0.95
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_SHARDING = {"gradients": "optim_grads", "parameters": "optim_grads_params"}
_PRECISIONS = {"bf16": ["--bf16"], "fp16": ["--fp16"], "fp32": [], "fp8": ["--bf16", "--fp8-format=hybrid"]}


def model_path(model: str, program: Program) -> str:
    """Return where a server finds the weights: as told, else a folder of ``/models``."""
    return program.model or f"/models/{path_part(model)}"


def memory_share(plan: ServingPlan) -> float:
    """Return the share of device memory for a server: what the plan needs, at least `UTILISATION`."""
    needed = max((stage.total / stage.capacity for stage in plan.memory), default=0.0)
    return min(MOST_UTILISATION, max(UTILISATION, math.ceil(needed * 100) / 100))


def check_degrees(plan: ServingPlan) -> None:
    """Check that vLLM's degrees can express a plan.

    Raises
    ------
    DeployError
        If a replica's GPUs are not tp x pp.
    """
    degrees = plan.strategy
    for replica in plan.replicas:
        if len(replica.gpus()) != degrees.tp * degrees.pp:
            raise DeployError(
                f"job {plan.name!r}: replica {replica.name!r} has {len(replica.gpus())} GPUs, but tp x pp "
                f"is {degrees.tp * degrees.pp}; a vLLM server cannot run it"
            )


def vllm_arguments(plan: ServingPlan, job: ServingJob | None, path: str, port: str) -> list[str]:
    """Return the arguments of ``vllm serve`` for one replica of a plan that passed `check_degrees`."""
    degrees = plan.strategy
    arguments = [
        path,
        "--host=0.0.0.0",
        f"--port={port}",
        f"--served-model-name={plan.model}",
        f"--tensor-parallel-size={degrees.tp // degrees.adp}",
        *([f"--data-parallel-size={degrees.adp}"] if degrees.adp > 1 else []),
        f"--pipeline-parallel-size={degrees.pp}",
        f"--max-num-seqs={plan.batching.max_batch // degrees.adp}",
        f"--max-num-batched-tokens={plan.batching.max_tokens}",
        f"--gpu-memory-utilization={memory_share(plan):.2f}",
    ]
    if degrees.ep > 1:
        arguments.append("--enable-expert-parallel")
    if plan.batching.graph_shapes:
        shapes = {"cudagraph_capture_sizes": sorted(set(plan.batching.graph_shapes))}
        arguments.append("--compilation-config=" + json.dumps(shapes, separators=(",", ":")))
    return arguments + (_precision_arguments(job, degrees) if job is not None else [])


def _precision_arguments(job: ServingJob, chosen: Strategy) -> list[str]:
    """Return the data types; int8 and fp4 are properties of the checkpoint, which vLLM reads from it."""
    arguments = []
    weights = chosen.precision or job.precision
    if weights in _DTYPES:
        arguments.append(f"--dtype={_DTYPES[weights]}")
    elif weights == "fp8":
        arguments.append("--quantization=fp8")
    if (chosen.kv_precision or job.kv_precision) == "fp8":
        arguments.append("--kv-cache-dtype=fp8")
    if not job.cuda_graphs:
        arguments.append("--enforce-eager")
    return arguments


def layer_partition(plan: ServingPlan) -> dict[str, str]:
    """Return the variable that gives vLLM the layers of each stage, where they are uneven."""
    if len(set(plan.layers)) < 2:
        return {}
    return {"VLLM_PP_LAYER_PARTITION": ",".join(str(count) for count in plan.layers)}


def vllm_group_arguments(nodes: int, rank: str, leader: str, *, head: bool) -> list[str]:
    """Return the arguments that join servers on several nodes into one replica; workers serve no requests."""
    arguments = [
        "--distributed-executor-backend=mp",
        f"--nnodes={nodes}",
        f"--node-rank={rank}",
        f"--master-addr={leader}",
        "--master-port=29500",
    ]
    return arguments if head else [*arguments, "--headless"]


def vllm_copy_arguments(
    plan: ServingPlan, ranks: Sequence[int], leader: str, port: int, *, head: bool
) -> list[str]:
    """Return the arguments that join servers of several nodes, each with whole copies of attention.

    Parameters
    ----------
    ranks
        Ranks of the replica on the node.

    Raises
    ------
    DeployError
        If a copy is on several nodes.
    """
    width = plan.strategy.tp // plan.strategy.adp
    first, count = ranks[0], len(ranks)
    if list(ranks) != list(range(first, first + count)) or first % width or count % width:
        raise DeployError(
            f"job {plan.name!r}: attention over {width} GPUs lies on several nodes, which a vLLM "
            "server cannot run; hold it to one node with --fix tp or --fix adp"
        )
    arguments = [
        f"--data-parallel-size-local={count // width}",
        f"--data-parallel-start-rank={first // width}",
        f"--data-parallel-address={leader}",
        f"--data-parallel-rpc-port={port}",
    ]
    return arguments if head else [*arguments, "--headless"]


def megatron_arguments(plan: TrainingPlan, job: TrainingJob | None, model: Transformer | None) -> list[str]:
    """Return the arguments of Megatron-LM; without a model its dimensions are left out."""
    return [
        *_degree_arguments(plan),
        *_stage_arguments(plan),
        *_memory_arguments(plan),
        *(
            _batch_arguments(plan, job)
            if job is not None
            else [f"--micro-batch-size={plan.strategy.micro_batch}"]
        ),
        *(_model_arguments(model) if model is not None else [f"--num-layers={sum(plan.layers)}"]),
    ]


def _degree_arguments(plan: TrainingPlan) -> list[str]:
    degrees = plan.strategy
    arguments = [
        f"--tensor-model-parallel-size={degrees.tp}",
        f"--pipeline-model-parallel-size={degrees.pp}",
        f"--context-parallel-size={degrees.cp}",
    ]
    if degrees.ep > 1:
        arguments.append(f"--expert-model-parallel-size={degrees.ep}")
        if degrees.tp > 1:
            arguments.append("--expert-tensor-parallel-size=1")
    if degrees.sequence_parallel:
        arguments.append("--sequence-parallel")
    return arguments


def _stage_arguments(plan: TrainingPlan) -> list[str]:
    """Return how layers are divided among stages.

    A layout lists the stages of the first virtual stage of every rank, then those of the second, separated by
    ``|``; ``E``, ``t`` and ``L`` stand for embedding, layer and loss (Megatron Core user guide, "Custom
    Pipeline Model Parallel Layout").
    """
    pp, virtual = plan.strategy.pp, plan.strategy.virtual
    if pp == 1:
        return []
    if len(set(plan.layers)) == 1 and plan.layers[0] % virtual == 0:
        each = plan.layers[0] // virtual
        return [f"--num-layers-per-virtual-pipeline-stage={each}"] if virtual > 1 else []
    chunks = [_chunk(count, virtual, part) for part in range(virtual) for count in plan.layers]
    stages = [f"t*{count}" if count else "" for count in chunks]
    stages[0] = f"E{stages[0]}"
    stages[-1] = f"{stages[-1]}L"
    return ["--pipeline-model-parallel-layout=" + "|".join(stages)]


def _chunk(layers: int, virtual: int, part: int) -> int:
    """Return the layers of one virtual stage of a rank; the first ones take the remainder."""
    return layers // virtual + (1 if part < layers % virtual else 0)


def _most_repeated(plan: TrainingPlan) -> int:
    """Return the most layers that a chunk of any stage repeats."""
    return max((-(-count // plan.strategy.virtual) for count in plan.recompute_layers), default=0)


def _block_arguments(plan: TrainingPlan) -> list[str]:
    """Return block recompute with one number for all stages, as Megatron-LM has it: the largest one fits."""
    layers = _most_repeated(plan)
    if layers == 0:
        return []
    return ["--recompute-granularity=full", "--recompute-method=block", f"--recompute-num-layers={layers}"]


def recompute_note(plan: TrainingPlan) -> str:
    """Return where the trainer repeats more layers than the plan, empty where it does as planned."""
    most = _most_repeated(plan)
    alike = [min(most * plan.strategy.virtual, layers) for layers in plan.layers]
    if plan.strategy.recompute != "block" or alike == plan.recompute_layers:
        return ""
    planned = "/".join(map(str, plan.recompute_layers))
    return (
        f"The plan recomputes {planned} layers of its stages; Megatron-LM has one number for all, so this "
        f"recomputes {'/'.join(map(str, alike))}: it fits, and is slower than planned. For a plan without "
        "this difference list a single number as recompute_layers."
    )


def _memory_arguments(plan: TrainingPlan) -> list[str]:
    arguments = {
        "none": [],
        "selective": ["--recompute-granularity=selective"],
        "full": ["--recompute-granularity=full", "--recompute-method=uniform", "--recompute-num-layers=1"],
        "block": _block_arguments(plan),
    }[plan.strategy.recompute]
    if plan.strategy.offload == "optimizer":
        arguments = [*arguments, "--optimizer-cpu-offload", "--use-precision-aware-optimizer"]
    elif plan.strategy.offload != "none":
        raise DeployError(
            f"job {plan.name!r}: Megatron-LM has no argument to offload {plan.strategy.offload}"
        )
    sharding = plan.strategy.sharding
    if sharding != "none":
        arguments = [*arguments, "--use-distributed-optimizer"]
    if sharding in _SHARDING:
        arguments += [
            "--use-megatron-fsdp",
            f"--data-parallel-sharding-strategy={_SHARDING[sharding]}",
            "--no-gradient-accumulation-fusion",
            "--ckpt-format=fsdp_dtensor",
        ]
    return arguments


def _batch_arguments(plan: TrainingPlan, job: TrainingJob) -> list[str]:
    if job.precision not in _PRECISIONS:
        raise DeployError(f"job {job.name!r}: Megatron-LM does not train in {job.precision}")
    attention = ["--attention-backend=flash"] if job.flash_attention else []
    return [
        f"--micro-batch-size={plan.strategy.micro_batch}",
        f"--global-batch-size={job.global_batch}",
        f"--seq-length={job.sequence}",
        f"--max-position-embeddings={job.sequence}",
        *_PRECISIONS[job.precision],
        *attention,
    ]


def _model_arguments(model: Transformer) -> list[str]:
    positions = "learned_absolute" if model.learned_positions else "rope"
    arguments = [
        f"--num-layers={model.layers}",
        f"--hidden-size={model.hidden}",
        f"--ffn-hidden-size={model.ffn}",
        f"--num-attention-heads={model.heads}",
        f"--kv-channels={model.head_dim}",
        f"--vocab-size={model.vocab}",
        f"--position-embedding-type={positions}",
    ]
    if model.gated:
        arguments += ["--swiglu", "--normalization=RMSNorm", "--disable-bias-linear"]
    if model.kv_heads < model.heads and model.latent is None:
        arguments += ["--group-query-attention", f"--num-query-groups={model.kv_heads}"]
    if not model.tied_embeddings:
        arguments.append("--untie-embeddings-and-output-weights")
    return [*arguments, *_latent_arguments(model), *_expert_arguments(model)]


def _latent_arguments(model: Transformer) -> list[str]:
    if model.latent is None:
        return []
    latent = model.latent
    query = [f"--q-lora-rank={latent.q_rank}"] if latent.q_rank else []
    return [
        "--multi-latent-attention",
        *query,
        f"--kv-lora-rank={latent.kv_rank}",
        f"--qk-head-dim={latent.nope_dim}",
        f"--qk-pos-emb-head-dim={latent.rope_dim}",
        f"--v-head-dim={latent.value_dim}",
    ]


def _expert_arguments(model: Transformer) -> list[str]:
    if model.experts is None:
        return []
    experts = model.experts
    arguments = [
        f"--num-experts={experts.num_experts}",
        f"--moe-router-topk={experts.top_k}",
        f"--moe-ffn-hidden-size={experts.ffn}",
        "--moe-grouped-gemm",
        "--moe-token-dispatcher-type=alltoall",
    ]
    if experts.shared_ffn:
        arguments.append(f"--moe-shared-expert-intermediate-size={experts.shared_ffn}")
    if experts.first_dense:
        arguments.append(
            f"--moe-layer-freq=([0]*{experts.first_dense}+[1]*{model.layers - experts.first_dense})"
        )
    return arguments
