"""The rank tables of a training job, and the script that starts one rank where they say.

Two small tables serve any number of nodes: ``nodes`` lists each node with its kind and its ranks, ``places``
lists for each kind and local rank the GPUs in rank order (as the host numbers them, and among those of the
job alone), the NUMA domain, the cores, the ports and the threads. Every rank sees all planned ports of its
node: NCCL takes the nearest one itself, and others to reach other rails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.deploy.cores import domain_number
from planner.deploy.errors import DeployError
from planner.deploy.shares import Place, Share, host_name, nccl_environment
from planner.deploy.verify_start import NAME as VERIFY
from planner.deploy.verify_start import verify_script
from planner.placement.bindings import as_core_list

NOTHING = "-"
BIND = "bind.sh"
NODES = "nodes"
PLACES = "places"


@dataclass(frozen=True)
class RankTables:
    """Text of the two tables, and the hosts in the order of their first rank."""

    hosts: tuple[str, ...]
    nodes: str
    places: str

    @property
    def files(self) -> dict[str, str]:
        """The tables and the scripts by file name."""
        return {BIND: BIND_SCRIPT, VERIFY: verify_script(), NODES: self.nodes, PLACES: self.places}


@dataclass(frozen=True)
class NodeGroup:
    """Nodes with equally many ranks, numbered from ``offset`` on."""

    offset: int
    shares: tuple[Share, ...]

    @property
    def num_ranks(self) -> int:
        """Ranks of each node."""
        return self.shares[0].num_gpus


def node_groups(shares: Sequence[Share]) -> list[NodeGroup]:
    """Return the nodes by their number of ranks, both in order of first use."""
    counts = list(dict.fromkeys(share.num_gpus for share in shares))
    groups: list[NodeGroup] = []
    offset = 0
    for count in counts:
        found = tuple(share for share in shares if share.num_gpus == count)
        groups.append(NodeGroup(offset, found))
        offset += len(found)
    return groups


def rank_tables(shares: Sequence[Share], nic_names: Mapping[str, str], *, by_index: bool) -> RankTables:
    """Return the tables of shares in the order of their first rank.

    Parameters
    ----------
    by_index
        Name nodes by their position rather than by their host name.
    """
    kinds: dict[tuple[str, ...], int] = {}
    hosts, nodes = [], []
    for index, share in enumerate(shares):
        lines = tuple(_place_lines(share, nic_names))
        kind = kinds.setdefault(lines, len(kinds))
        hosts.append(str(index) if by_index else host_name(share.node))
        nodes.append(f"{hosts[-1]} {kind} {' '.join(str(rank) for rank in share.ranks)}\n")
    places = [f"{kind} {line}\n" for lines, kind in kinds.items() for line in lines]
    return RankTables(tuple(hosts), "".join(nodes), "".join(places))


def _place_lines(share: Share, nic_names: Mapping[str, str]) -> list[str]:
    visible = f"{_numbers(share.host_order)} {_numbers(share.container_order)}"
    network = nccl_environment(share.nics(nic_names))
    ports = next((f"{name}={value}" for name, value in network.items()), NOTHING)
    return [_place_line(share, local, place, visible, ports) for local, place in enumerate(share.places)]


def _numbers(order: Sequence[int]) -> str:
    return ",".join(str(number) for number in order)


def _place_line(share: Share, local: int, place: Place, visible: str, ports: str) -> str:
    numa = domain_number(share.machine, place.numa)
    return (
        f"{local} {visible} {numa} {as_core_list(place.cores) or NOTHING} {ports} {max(1, len(place.cores))}"
    )


BIND_SCRIPT = r"""#!/usr/bin/env bash
# Starts one rank where the plan puts it. Usage: torchrun --no-python ... bash bind.sh PROGRAM [ARGUMENT...]
#
# torchrun numbers ranks by node and local rank; the plan may number them otherwise. The rank of this process
# is therefore read from the tables beside this script. That is safe with torchrun's static rendezvous: its
# agent keeps the store, and every process is a client of it.
#
# PLANNER_NODE     name of this node in the table (default: the host name)
# PLANNER_DEVICES  host (default): GPUs are numbered as on the host; own: only those of the job are seen
# PLANNER_BIND     strict (default): the planned cores and memory; soft: the planned NUMA domain where it is
#                  allowed, else as local; local: memory next to the core that runs; off: nothing
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
name="${PLANNER_NODE:-$(hostname)}"
local_rank="${LOCAL_RANK:?bind.sh is started by torchrun, which sets LOCAL_RANK}"

kind='' ranks=()
while read -r host row_kind row_ranks; do
  if [[ "$host" == "$name" || "${host%%.*}" == "$name" || "$host" == "${name%%.*}" ]]; then
    kind="$row_kind"
    read -r -a ranks <<<"$row_ranks"
    break
  fi
done <"$here/nodes"
if [[ -z "$kind" || -z "${ranks[$local_rank]:-}" ]]; then
  echo "bind.sh: the plan has no local rank $local_rank on node $name" >&2
  exit 1
fi

visible='' own='' numa='' cores='' ports='' threads=''
while read -r row_kind row_local visible own numa cores ports threads; do
  [[ "$row_kind" == "$kind" && "$row_local" == "$local_rank" ]] && break
done <"$here/places"

export RANK="${ranks[$local_rank]}"
export CUDA_DEVICE_ORDER=PCI_BUS_ID
[[ "${PLANNER_DEVICES:-host}" == host ]] || visible="$own"
export CUDA_VISIBLE_DEVICES="$visible"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
case "$ports" in
  NCCL_IB_HCA=*) export NCCL_IB_HCA="${NCCL_IB_HCA:-${ports#*=}}" ;;
  NCCL_SOCKET_IFNAME=*) export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-${ports#*=}}" ;;
  PLANNER_NICS=*) export PLANNER_NICS="${ports#*=}" ;;
esac

bind=()
mode="${PLANNER_BIND:-strict}"
if [[ "$mode" != off ]] && ! command -v numactl >/dev/null; then
  echo "bind.sh: numactl is not installed; rank $RANK runs unbound" >&2
  mode=off
fi
case "$mode" in
  strict)
    if [[ "$cores" == - ]]; then
      bind=(numactl "--cpunodebind=$numa" "--membind=$numa" --)
    else
      bind=(numactl "--physcpubind=$cores" "--membind=$numa" --)
    fi
    ;;
  soft)
    bind=(numactl "--cpunodebind=$numa" "--preferred=$numa" --)
    if ! "${bind[@]}" true 2>/dev/null; then
      echo "bind.sh: NUMA domain $numa is not allowed here; rank $RANK keeps its memory local" >&2
      bind=(numactl --localalloc --)
    fi
    ;;
  local) bind=(numactl --localalloc --) ;;
  off) ;;
  *)
    echo "bind.sh: PLANNER_BIND is '$mode'; use strict, soft, local or off" >&2
    exit 1
    ;;
esac

# The program starts through verify.sh, which says what the rank did not get; see there for PLANNER_VERIFY.
verify=()
if [[ -r "$here/verify.sh" ]]; then
  [[ "${PLANNER_BIND:-strict}" == strict ]] || cores=- numa=-
  names=-
  case "$ports" in
    NCCL_*=*) names="${ports#*=}" names="${names#=}" ;;
  esac
  verify=(bash "$here/verify.sh" "$cores" "$numa" "$visible" "$names")
fi
exec "${bind[@]}" "${verify[@]}" "$@"
"""


def check_hosts(hosts: Sequence[str]) -> None:
    """Check that no two nodes have one host name.

    Raises
    ------
    DeployError
        If they have, since the tables could not tell them apart.
    """
    doubled = (
        sorted({host for host in hosts if hosts.count(host) > 1}) if len(set(hosts)) < len(hosts) else []
    )
    if doubled:
        raise DeployError(*[f"several nodes have the host name {name!r}" for name in doubled])
