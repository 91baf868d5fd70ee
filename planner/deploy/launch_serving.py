"""Launch scripts of serving jobs: vLLM on planned GPUs, cores and memory, CPU stages on their cores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.deploy.arguments import (
    MOVED_CACHES,
    check_degrees,
    layer_partition,
    model_path,
    vllm_arguments,
    vllm_copy_arguments,
    vllm_group_arguments,
)
from planner.deploy.capacity import num_workers
from planner.deploy.context import Context
from planner.deploy.cores import domain_number, parse_cores
from planner.deploy.names import dns_label, natural_key, variable_part
from planner.deploy.pods import gpu_environment
from planner.deploy.ports import LaunchPorts
from planner.deploy.shares import Share, host_name, nccl_environment
from planner.deploy.shell import array, defaults, exports, script
from planner.deploy.stages import Pool, memory_modes, pools
from planner.deploy.verify_start import NAME, planned, verify_script
from planner.placement.bindings import as_core_list
from planner.placement.plan import Replica, ServingPlan
from planner.workload import ServingJob

POOLS = "pools.json"
"""File with the addresses of servers that compute prompts and of those that generate, for a router."""
ROLES = ("prefill", "decode")

_START = """\
# Starts every script of this host, and stops them all when one ends.
name="${PLANNER_NODE:-$(hostname)}"
started=()
stop() { [[ ${#started[@]} -eq 0 ]] || kill "${started[@]}" 2>/dev/null || true; }
trap stop EXIT
while read -r host file; do
  if [[ "$host" == "$name" || "${host%%.*}" == "$name" || "$host" == "${name%%.*}" ]]; then
    bash "$here/$file" &
    started+=("$!")
  fi
done <"$here/nodes"
if [[ ${#started[@]} -eq 0 ]]; then
  echo "start.sh: $name is not a node of the plan; set PLANNER_NODE to one of those in $here/nodes" >&2
  exit 1
fi
wait -n "${started[@]}"
"""

_BIND = """\
if ! command -v numactl >/dev/null; then
  echo "numactl is not installed; running unbound" >&2
  bind=()
fi
"""


def serving_files(context: Context, job: ServingPlan, ports: LaunchPorts) -> dict[str, str]:
    """Return the launch files of a serving job by name."""
    files: dict[str, str] = {}
    rows: list[tuple[str, str]] = []
    parts = job.pools()
    addresses: dict[str, list[str]] = {}
    for role, part in zip(ROLES, parts, strict=False):
        check_degrees(part)
        for replica in sorted(part.replicas, key=lambda replica: natural_key(replica.name)):
            sockets = _sockets(context, part, replica, ports, moves=len(parts) > 1)
            found = _replica_files(context, part, replica, ports, sockets)
            files |= {name: text for name, _, text in found}
            rows += [(host, name) for name, host, _ in found]
            addresses.setdefault(role, []).append(sockets.address)
    if len(parts) > 1:
        files[POOLS] = json.dumps(addresses, indent=2) + "\n"
    rows.sort(key=lambda row: (natural_key(row[0]), natural_key(row[1])))
    files["start.sh"] = script(
        f"Starts what job {job.name} of plan {context.plan.name} runs on this host.", _START
    )
    files[NAME] = verify_script()
    files["nodes"] = "".join(f"{host} {name}\n" for host, name in rows)
    return files


@dataclass(frozen=True)
class _Sockets:
    """Ports of a replica on its first host: of the server, of its process group, of moved caches."""

    host: str
    server: int
    group: int
    caches: int | None

    @property
    def address(self) -> str:
        """Where requests go."""
        return f"http://{self.host}:{self.server}"


def _sockets(
    context: Context, job: ServingPlan, replica: Replica, ports: LaunchPorts, *, moves: bool
) -> _Sockets:
    """Return the ports of a replica; with ``moves`` some for caches that cross from pool to pool."""
    shares = context.reader(job).shares(replica.gpus())
    if not shares:
        return _Sockets(replica.node, 0, 0, None)
    node = shares[0].node.name
    return _Sockets(
        host_name(shares[0].node),
        ports.servers.take(node),
        ports.groups.take(node) if len(shares) > 1 else 0,
        ports.caches.take(node, job.strategy.adp) if moves else None,
    )


def _replica_files(
    context: Context, job: ServingPlan, replica: Replica, ports: LaunchPorts, sockets: _Sockets
) -> list[tuple[str, str, str]]:
    """Return name, host and text of the scripts of a replica: stages, then servers."""
    folder, found = dns_label(replica.name), []
    stage_env: dict[str, str] = {}
    for pool in pools(context, job, replica):
        port, host = ports.stages.take(pool.node.name), host_name(pool.node)
        stage_env[f"PLANNER_STAGE_{variable_part(pool.name)}"] = f"{host}:{port}"
        found.append(
            (f"{folder}/stage-{dns_label(pool.name)}.sh", host, _stage_script(context, job, pool, port))
        )
    shares = context.reader(job).shares(replica.gpus())
    for index, share in enumerate(shares):
        env = {**stage_env, **memory_modes(replica)} if index == 0 else {}
        text = _server_script(context, job, replica, shares, index, sockets, env)
        found.append((f"{folder}/serve-{index}.sh", host_name(share.node), text))
    return found


def _numactl(cores: Sequence[int] | frozenset[int], numbers: Sequence[int]) -> str:
    """Return the array that binds a process to cores, or to whole domains where none are stated."""
    domains = ",".join(str(number) for number in numbers)
    where = f"--physcpubind={as_core_list(cores)}" if cores else f"--cpunodebind={domains}"
    return array("bind", ["numactl", where, f"--membind={domains}", "--"])


def _server_script(
    context: Context,
    job: ServingPlan,
    replica: Replica,
    shares: Sequence[Share],
    index: int,
    sockets: _Sockets,
    env: Mapping[str, str],
) -> str:
    program, share, spec = context.target.program(job.name), shares[index], context.jobs.get(job.name)
    arguments = vllm_arguments(
        job,
        spec if isinstance(spec, ServingJob) else None,
        model_path(job.model, program),
        str(sockets.server),
    )
    group = sockets.group
    if sockets.caches is not None:
        arguments.append(MOVED_CACHES)
        own = {"HOST": host_name(share.node), "PORT": str(sockets.caches)}
        env = {**env, **{f"VLLM_NIXL_SIDE_CHANNEL_{name}": value for name, value in own.items()}}
    master = host_name(shares[0].node)
    if len(shares) > 1 and job.strategy.adp > 1:
        arguments += vllm_copy_arguments(job, share.ranks, master, group, head=index == 0)
    elif len(shares) > 1:
        joined = vllm_group_arguments(len(shares), str(index), master, head=index == 0)
        arguments += [
            f"--master-port={group}" if word.startswith("--master-port") else word for word in joined
        ]
    devices = gpu_environment(share.host_order, context.vendor(job, shares), mig=job.mig is not None)
    network = nccl_environment(share.nics(context.target.nic_names)) if len(shares) > 1 else {}
    mig = (
        ': "${CUDA_VISIBLE_DEVICES:?set it to the identifiers of the MIG slices}"\n'
        if job.mig is not None
        else ""
    )
    numbers = [domain_number(share.machine, numa) for numa in share.numas]
    return script(
        f"Replica {replica.name} of job {job.name}, part {index + 1} of {len(shares)}, on {share.node.name}.",
        exports(devices) + mig + defaults({**network, **layer_partition(job), **env, **program.env}),
        array("program", program.command or ("vllm", "serve")),
        array("arguments", [*arguments, *program.arguments]),
        # The model may be elsewhere on these hosts than in a container.
        '[[ -z "${MODEL:-}" ]] || arguments[0]="$MODEL"\n',
        _numactl(share.cores, numbers) + _BIND,
        planned(share.cores, numbers, devices, network),
        'exec "${bind[@]}" "${verify[@]}" "${program[@]}" "${arguments[@]}" "$@"\n',
    )


def _stage_script(context: Context, job: ServingPlan, pool: Pool, port: int) -> str:
    program = context.target.program(job.name, pool.name)
    workers, placement = num_workers(pool.stage, pool.placement), pool.placement
    cores, domains = parse_cores(placement.core_list), [domain_number(pool.node.machine, pool.numa)]
    env = {
        "PLANNER_STAGE": pool.name,
        "PLANNER_WORKERS": str(workers),
        "PLANNER_PREFETCH": str(placement.prefetch),
        "PLANNER_PORT": str(port),
        "OMP_NUM_THREADS": str(pool.stage.parallel if pool.stage else 1),
        **program.env,
    }
    own = array("program", program.command or ("stage-worker",))
    if not program.command:
        own += '[[ -z "${STAGE_WORKER:-}" ]] || program=("$STAGE_WORKER")\n'
    return script(
        f"CPU stage {pool.name} of {job.name}/{pool.replica}, on {pool.node.name}/{pool.numa}.",
        defaults(env),
        own,
        array("arguments", program.arguments),
        _numactl(cores, domains) + _BIND,
        planned(cores, domains, {}, {}),
        'exec "${bind[@]}" "${verify[@]}" "${program[@]}" "${arguments[@]}" "$@"\n',
    )
