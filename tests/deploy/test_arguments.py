import pytest

from benchmarks.manifest_plans import GB, serving_plan, training_plan
from planner.deploy import DeployError
from planner.deploy.arguments import (
    layer_partition,
    megatron_arguments,
    memory_share,
    model_path,
    recompute_note,
    vllm_arguments,
    vllm_copy_arguments,
)
from planner.deploy.target import Program
from planner.placement.plan import Replica, Strategy
from planner.placement.records import StageMemory
from planner.workload import LatentAttention
from tests.deploy.plans import experts, serving_job, training_job, transformer


def layout(layers: list[int], virtual: int = 1) -> list[str]:
    strategy = Strategy(pp=len(layers), virtual=virtual)
    job = training_plan(strategy, [f"node-0/gpu[0-{len(layers) - 1}]"], layers=layers)
    return [word for word in megatron_arguments(job, None, None) if "layout" in word or "virtual" in word]


@pytest.mark.parametrize(
    ("layers", "virtual", "words"),
    [
        ([80], 1, []),
        ([40, 40], 1, []),
        ([40, 40], 4, ["--num-layers-per-virtual-pipeline-stage=10"]),
        ([38, 42], 1, ["--pipeline-model-parallel-layout=Et*38|t*42L"]),
        ([3, 4], 2, ["--pipeline-model-parallel-layout=Et*2|t*2|t*1|t*2L"]),
    ],
)
def test_layers_of_stages_become_a_layout(layers: list[int], virtual: int, words: list[str]) -> None:
    """Even stages need no layout; uneven ones list every (virtual) stage, embedding first and loss last."""
    assert layout(layers, virtual) == words


def test_layout_keeps_every_layer() -> None:
    """However uneven the stages, the layout holds as many layers as the plan."""
    for layers in ([1, 2, 4], [7, 7, 6], [5, 9]):
        for virtual in (1, 2, 3):
            (word,) = layout(layers, virtual)
            stages = word.partition("=")[2].split("|")
            assert len(stages) == len(layers) * virtual
            assert sum(int(stage.partition("t*")[2].rstrip("L") or 0) for stage in stages) == sum(layers)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Strategy(recompute="full"), {"--recompute-granularity=full", "--recompute-method=uniform"}),
        (Strategy(recompute="selective"), {"--recompute-granularity=selective"}),
        (Strategy(sharding="optimizer"), {"--use-distributed-optimizer"}),
        (
            Strategy(sharding="gradients"),
            {"--use-megatron-fsdp", "--data-parallel-sharding-strategy=optim_grads"},
        ),
        (Strategy(sharding="parameters"), {"--data-parallel-sharding-strategy=optim_grads_params"}),
        (Strategy(cp=2), {"--context-parallel-size=2"}),
        (Strategy(tp=2, ep=4), {"--expert-model-parallel-size=4", "--expert-tensor-parallel-size=1"}),
    ],
)
def test_each_switch_of_a_strategy_has_its_arguments(strategy: Strategy, words: set[str]) -> None:
    """Every decision of a training plan reaches the trainer."""
    job = training_plan(strategy, ["node-0/gpu0"])
    assert words <= set(megatron_arguments(job, training_job(), transformer()))


@pytest.mark.parametrize(
    ("again", "virtual", "number", "shown"),
    [
        ([9, 9], 1, 9, ""), ([9, 3], 1, 9, "9/3"), ([6, 6], 2, 3, ""), ([6, 2], 2, 3, "6/2"),
        ([40, 39], 1, 40, "40/39"), ([0, 0], 1, None, ""),
    ],
)  # fmt: skip
def test_block_recompute_takes_the_largest_number_and_says_so(
    again: list[int], virtual: int, number: int | None, shown: str
) -> None:
    """The trainer has one number per chunk for all stages; the note names the plan's where they differ."""
    strategy = Strategy(pp=2, virtual=virtual, recompute="block")
    job = training_plan(strategy, ["node-0/gpu[0-1]"]).model_copy(update={"recompute_layers": again})
    words = [word for word in megatron_arguments(job, training_job(), transformer()) if "recompute" in word]
    block = ["--recompute-granularity=full", "--recompute-method=block", f"--recompute-num-layers={number}"]
    assert words == (block if number else [])
    assert (f"recomputes {shown} layers" in recompute_note(job)) if shown else recompute_note(job) == ""


def test_model_dimensions_reach_the_trainer() -> None:
    """Grouped heads, experts and latent attention are stated as Megatron-LM names them."""
    job = training_plan(Strategy(), ["node-0/gpu0"])
    dense = megatron_arguments(job, training_job(), transformer())
    assert {"--group-query-attention", "--num-query-groups=8", "--swiglu", "--hidden-size=8192"} <= set(dense)
    sparse = megatron_arguments(job, training_job(), experts())
    assert {"--num-experts=64", "--moe-router-topk=4", "--moe-layer-freq=([0]*3+[1]*77)"} <= set(sparse)
    latent = transformer().model_copy(
        update={"latent": LatentAttention(q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, value_dim=128)}
    )
    words = set(megatron_arguments(job, training_job(), latent))
    assert {"--multi-latent-attention", "--kv-lora-rank=512", "--qk-pos-emb-head-dim=64"} <= words
    assert "--group-query-attention" not in words


def test_data_types_that_no_trainer_has_are_refused() -> None:
    """Training in int8 is not an argument of Megatron-LM."""
    job = training_job().model_copy(update={"precision": "int8"})
    with pytest.raises(DeployError, match="does not train in int8"):
        megatron_arguments(training_plan(Strategy(), ["node-0/gpu0"]), job, None)


def test_server_gets_the_data_types() -> None:
    """Weights and cache types become arguments of vLLM; graphs can be turned off."""
    plan = serving_plan([Replica(name="r", node="n", devices=["n/gpu[0-3]"])])
    job = serving_job().model_copy(update={"precision": "fp8", "kv_precision": "fp8", "cuda_graphs": False})
    words = vllm_arguments(plan, job, "/models/toy", "8000")
    assert {"--quantization=fp8", "--kv-cache-dtype=fp8", "--enforce-eager"} <= set(words)


def test_copies_of_attention_become_data_parallel_ranks() -> None:
    """Each copy is a rank of vLLM with tensor parallelism of its own; experts are divided among all GPUs."""
    plan = serving_plan([]).model_copy(update={"strategy": Strategy(tp=16, ep=16, adp=8)})
    words = set(vllm_arguments(plan, serving_job(), "/models/toy", "8000"))
    assert {"--tensor-parallel-size=2", "--data-parallel-size=8", "--enable-expert-parallel"} <= words
    assert f"--max-num-seqs={plan.batching.max_batch // 8}" in words
    second = vllm_copy_arguments(plan, range(8, 16), "first", 29500, head=False)
    assert {"--data-parallel-size-local=4", "--data-parallel-start-rank=4", "--headless"} <= set(second)
    with pytest.raises(DeployError, match="lies on several nodes"):
        vllm_copy_arguments(plan, range(7), "first", 29500, head=True)


@pytest.mark.parametrize(("used", "share"), [(10 * GB, 0.90), (73.3 * GB, 0.92), (79 * GB, 0.95)])
def test_memory_share_covers_the_plan(used: float, share: float) -> None:
    """The server may use what the plan needs, at least the usual share, and never all."""
    plan = serving_plan([]).model_copy(
        update={"memory": [StageMemory(stage=0, parts={"weights": used}, capacity=80 * GB)]}
    )
    assert memory_share(plan) == pytest.approx(share)


def test_uneven_stages_of_a_server_are_stated() -> None:
    """vLLM divides layers evenly unless told."""
    assert layer_partition(serving_plan([], pp=2)) == {}
    assert layer_partition(serving_plan([], pp=2, layers=[41, 39])) == {"VLLM_PP_LAYER_PARTITION": "41,39"}


@pytest.mark.parametrize(
    ("model", "path"), [("llama3-70b", "/models/llama3-70b"), ("meta/llama-3.1", "/models/meta--llama-3.1")]
)
def test_weights_lie_under_the_name_of_the_model(model: str, path: str) -> None:
    """A model's folder is named like the model, in one path component; the target can state another place."""
    assert model_path(model, Program()) == path
    assert model_path(model, Program(model="/elsewhere")) == "/elsewhere"
    assert model_path("a/../../etc", Program()).startswith("/models/a--")
    assert "/.." not in model_path("a/../../etc", Program())
