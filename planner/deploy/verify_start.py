"""The script through which launch files start a program once it runs where the plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.deploy.shell import array, script
from planner.placement.bindings import as_core_list

NAME = "verify.sh"

_BODY = r"""
# Usage: verify.sh CORES DOMAINS DEVICES PORTS COMMAND...; "-" where nothing is planned.
# PLANNER_VERIFY: warn (default) says what differs and goes on, strict then ends, off looks at nothing.
cores="$1" domains="$2" devices="$3" ports="$4"
shift 4
mode="${PLANNER_VERIFY:-warn}"
proc="${PLANNER_PROC:-/proc/self}"
sys="${PLANNER_SYS:-/sys}"
wrong=0

differs() {
  echo "verify.sh: $1" >&2
  wrong=1
}

# The numbers of a list such as 0-3,8, one a line.
numbers() {
  local part parts
  IFS=, read -r -a parts <<<"$1"
  for part in "${parts[@]}"; do
    seq "${part%%-*}" "${part##*-}"
  done
}

# The numbers of the first list that the second lacks.
missing() {
  comm -23 <(numbers "$1" | sort) <(numbers "$2" | sort) | sort -n | paste -s -d, -
}

# The value of a field of the status of this process, which inherits what it was bound to.
field() {
  local name value
  while read -r name value; do
    if [[ "$name" == "$1:" ]]; then
      echo "$value"
      return
    fi
  done <"$proc/status"
}

check_cores() {
  local found
  found="$(field Cpus_allowed_list)"
  [[ -n "$found" ]] || return 0
  if [[ -n "$(missing "$found" "$cores")" || -n "$(missing "$cores" "$found")" ]]; then
    differs "runs on cores $found, planned are $cores"
  fi
}

check_memory() {
  local found lacking policy
  found="$(field Mems_allowed_list)"
  [[ -n "$found" ]] || return 0
  lacking="$(missing "$domains" "$found")"
  if [[ -n "$lacking" ]]; then
    differs "may not use memory of NUMA domain $lacking, allowed are $found"
  fi
  if [[ -r "$proc/numa_maps" ]] && read -r _ policy _ <"$proc/numa_maps"; then
    if [[ "$policy" != bind* || -n "$(missing "${policy#*:}" "$domains")" ]]; then
      differs "memory policy is $policy, planned is bind:$domains"
    fi
  fi
}

check_devices() {
  local found="${CUDA_VISIBLE_DEVICES:-${HIP_VISIBLE_DEVICES:-}}"
  if [[ "$found" != "$devices" ]]; then
    differs "sees devices '$found', planned are '$devices'"
  fi
  if [[ -n "${CUDA_VISIBLE_DEVICES:-}" && "${CUDA_DEVICE_ORDER:-}" != PCI_BUS_ID ]]; then
    differs "CUDA_DEVICE_ORDER is not PCI_BUS_ID, so the devices may be others"
  fi
}

check_ports() {
  local port names
  IFS=, read -r -a names <<<"$ports"
  for port in "${names[@]}"; do
    port="${port%%:*}"
    if [[ ! -e "$sys/class/infiniband/$port" && ! -e "$sys/class/net/$port" ]]; then
      differs "network port $port does not exist"
    fi
  done
}

case "$mode" in
  warn | strict)
    if [[ -r "$proc/status" ]]; then
      [[ "$cores" == - ]] || check_cores
      [[ "$domains" == - ]] || check_memory
    fi
    [[ "$devices" == - ]] || check_devices
    [[ "$ports" == - ]] || check_ports
    ;;
  off) ;;
  *)
    echo "verify.sh: PLANNER_VERIFY is '$mode'; use warn, strict or off" >&2
    exit 2
    ;;
esac
if [[ "$mode" == strict && "$wrong" -ne 0 ]]; then
  echo "verify.sh: not started; PLANNER_VERIFY=warn starts it all the same" >&2
  exit 1
fi
exec "$@"
"""


def verify_script() -> str:
    """Return the script that compares what a process got with what was planned, and then becomes it."""
    return script("Starts a program once its cores, memory, devices and ports are those of the plan.", _BODY)


def planned(
    cores: Sequence[int] | frozenset[int],
    domains: Sequence[int],
    devices: Mapping[str, str],
    network: Mapping[str, str],
) -> str:
    """Return the array ``verify`` that starts a program through the script.

    Parameters
    ----------
    cores, domains
        Numbers of the host; no cores where whole domains are bound.
    devices, network
        Environment of GPUs and of NCCL.
    """
    visible = next((value for name, value in devices.items() if name.endswith("_VISIBLE_DEVICES")), "-")
    held = next((value for name, value in network.items() if name.startswith("NCCL_")), "-")
    words = [
        as_core_list(cores) if cores else "-",
        ",".join(map(str, domains)) or "-",
        visible,
        held.removeprefix("="),
    ]
    return array("planned", words) + f'verify=(bash "$here/../{NAME}" "${{planned[@]}}")\n'
