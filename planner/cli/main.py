"""The ``planner`` command: where its subcommands are listed; each is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from planner import __version__
from planner.cli.group import PlannerGroup, common_options, examples

COMMANDS = {
    "solve": ("planner.cli.solving", "solve_command", "Place a workload on a topology and print the plan."),
    "simulate": (
        "planner.cli.simulating",
        "simulate_command",
        "Simulate a plan: percentiles, link saturation, trace.",
    ),
    "replay": (
        "planner.cli.simulating",
        "replay_command",
        "Replay a flow trace on its links: finish time of each flow.",
    ),
    "check": ("planner.cli.checking", "check_command", "Validate documents, or a plan against its inputs."),
    "explain": ("planner.cli.checking", "explain_command", "Say why a plan is as it is, and what limits it."),
    "emit": ("planner.cli.emitting", "emit_group", "Write the files that carry a plan out on a cluster."),
    "report": (
        "planner.cli.reporting",
        "report_command",
        "Write the self-contained HTML page of a plan, or of two side by side.",
    ),
    "gate": (
        "planner.cli.gating",
        "gate_command",
        "Compare figures with limits and a baseline; exit code 5 on failure.",
    ),
    "calibrate": (
        "planner.cli.calibrating",
        "calibrate_group",
        "Measure a host and its devices; fit coefficients to measurements.",
    ),
    "verify": (
        "planner.cli.verifying",
        "verify_command",
        "Run a plan's parts on the devices at hand: predicted against measured.",
    ),
    "accuracy": (
        "planner.cli.accuracy",
        "accuracy_command",
        "Predict measured runs from a table: error per source.",
    ),
    "whatif": ("planner.cli.whatif", "whatif_command", "Vary the inputs, solve each scenario, compare."),
    "recommend": (
        "planner.cli.recommend",
        "recommend_command",
        "Find the smallest cluster of given blocks that holds the limits.",
    ),
    "fleet": (
        "planner.cli.fleet",
        "fleet_command",
        "Share a cluster among many jobs: nodes, GPUs, MIG slices.",
    ),
    "pareto": ("planner.cli.fleet", "pareto_command", "Show price against time over numbers of nodes."),
    "topology": ("planner.cli.machines", "topology_group", "List and show machines and clusters."),
    "agent": ("planner.cli.agent", "agent_command", "Describe the node that it runs on."),
}


class LazyGroup(PlannerGroup):
    """A group that imports a command only when it is used, so that ``--help`` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of a typical session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    epilog=examples(
        "planner solve dgx-h100-x8 llama3-70b-training -o out",
        "planner explain out/plan.yaml",
        "planner topology list",
    ),
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="planner")
@common_options
def cli(**_: Any) -> None:
    """Decide where AI workloads run on hybrid CPU and GPU machines, with proof."""
