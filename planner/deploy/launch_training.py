"""Launch scripts of training jobs: torchrun on every node, `bind.sh` for every rank, SLURM."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from planner.deploy.arguments import recompute_note
from planner.deploy.context import Context, job_name
from planner.deploy.ports import LaunchPorts
from planner.deploy.ranks import RankTables, check_hosts, rank_tables
from planner.deploy.shares import Share
from planner.deploy.shell import array, comment, defaults, script
from planner.deploy.trainer import trainer_environment, training_arguments
from planner.placement.plan import TrainingPlan
from planner.schema import compress

_FIND_NODE = """\
# The node rank is the line of this host in the table of nodes.
name="${PLANNER_NODE:-$(hostname)}"
node_rank='' index=0
while read -r host _ row_ranks; do
  if [[ "$host" == "$name" || "${host%%.*}" == "$name" || "$host" == "${name%%.*}" ]]; then
    node_rank="$index"
    break
  fi
  index=$((index + 1))
done <"$here/nodes"
if [[ -z "$node_rank" ]]; then
  echo "launch.sh: $name is not a node of the plan; set PLANNER_NODE to one of those in $here/nodes" >&2
  exit 1
fi
export PLANNER_NODE="$host"
read -r -a ranks <<<"$row_ranks"
"""

_RUN = """\
exec torchrun --no-python --nnodes={nodes} --nproc-per-node="${{#ranks[@]}}" --node-rank="$node_rank" \\
  --rdzv-backend=static --rdzv-endpoint="${{MASTER_ADDR:-{master}}}:${{MASTER_PORT:-{port}}}" \\
  --max-restarts=0 bash "$here/bind.sh" "${{program[@]}}" "${{arguments[@]}}" "$@"
"""


def training_files(context: Context, job: TrainingPlan, ports: LaunchPorts) -> dict[str, str]:
    """Return the launch files of a training job by name."""
    shares = context.reader(job).shares(job.ranks())
    tables = rank_tables(shares, context.target.nic_names, by_index=False)
    check_hosts(tables.hosts)
    port = ports.groups.take(shares[0].node.name)
    return {
        "launch.sh": _launch(context, job, tables, port),
        **tables.files,
        "hostfile": "".join(
            f"{host} slots={share.num_gpus}\n" for host, share in zip(tables.hosts, shares, strict=True)
        ),
        "job.sbatch": _sbatch(job, shares, tables),
    }


def _launch(context: Context, job: TrainingPlan, tables: RankTables, port: int) -> str:
    program = context.target.program(job.name)
    words = program.command or ("python3", "pretrain_gpt.py")
    own = array("program", words)
    if not program.command:
        own += '[[ -z "${TRAIN_SCRIPT:-}" ]] || program=("${PYTHON:-python3}" "$TRAIN_SCRIPT")\n'
    run = _RUN.format(nodes=len(tables.hosts), master=tables.hosts[0], port=port)
    return script(
        f"Starts this node's ranks of job {job.name} of plan {context.plan.name} ({context.digest}).",
        "# Run it on every node of the file nodes, in any order; arguments are handed to the trainer.\n"
        "# TRAIN_SCRIPT, MASTER_ADDR, MASTER_PORT, PLANNER_NODE and PLANNER_BIND override what is planned.",
        _FIND_NODE,
        defaults({**trainer_environment(job), **program.env}),
        own,
        _noted(job) + array("arguments", [*training_arguments(context, job), *program.arguments]),
        run,
    )


def _noted(job: TrainingPlan) -> str:
    note = recompute_note(job)
    return f"# {comment(note)}\n" if note else ""


def _sbatch(job: TrainingPlan, shares: Sequence[Share], tables: RankTables) -> str:
    """Return a SLURM batch script: the planned nodes, all their ranks started by one task a node.

    ``bind.sh`` binds every rank itself, so SLURM is told not to.
    """
    folded = ",".join(compress(tables.hosts))
    cores = min(sum(domain.cores for domain in share.machine.numa) for share in shares)
    gpus = min(len(share.machine.gpus) for share in shares)
    return (
        "#!/usr/bin/env bash\n"
        f"#SBATCH --job-name={job_name(job)}\n"
        f"#SBATCH --nodes={len(shares)}\n"
        f"#SBATCH --nodelist={folded}\n"
        "#SBATCH --ntasks-per-node=1\n"
        f"#SBATCH --cpus-per-task={cores}\n"
        f"#SBATCH --gres=gpu:{gpus}\n"
        "#SBATCH --exclusive\n"
        "# Submit it in the folder of launch.sh: a task starts the ranks of its node, bind.sh binds them.\n"
        "# It takes whole nodes: of parts of a node SLURM would choose the GPUs and cores by itself.\n"
        "set -euo pipefail\n"
        'here="${PLANNER_DIR:-${SLURM_SUBMIT_DIR:?submit this script with sbatch}}"\n'
        f'export MASTER_ADDR="${{MASTER_ADDR:-{shlex.quote(tables.hosts[0])}}}"\n'
        'srun --cpu-bind=none --kill-on-bad-exit=1 bash "$here/launch.sh" "$@"\n'
    )
