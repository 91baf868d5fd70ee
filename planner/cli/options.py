"""Options that several commands share, each said once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def time_limit_option(
    help: str = "Time for the search, seconds.", default: float = 60.0
) -> Callable[[Command], Command]:
    """Return the option ``--time-limit``."""
    limit = click.FloatRange(min=0.1)
    return click.option("--time-limit", default=default, show_default=True, type=limit, help=help)


def seed_option(help: str = "Seed of search and simulation.") -> Callable[[Command], Command]:
    """Return the option ``--seed``."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help=help)


def calibration_option(command: Command) -> Command:
    """Add the option ``--calibration``."""
    option = click.option(
        "--calibration", default="default", show_default=True, help="Coefficients: a file or a preset."
    )
    return option(command)


def parallel_options(command: Command) -> Command:
    """Add the options that say where scenarios run."""
    processes = click.option(
        "--processes",
        type=click.IntRange(min=1),
        help="Local processes.  [default: as many as there are cores]",
    )
    cluster = click.option("--cluster", help="Address of a Dask scheduler that runs the scenarios instead.")
    return processes(cluster(command))


def price_option(command: Command) -> Command:
    """Add the repeatable option ``--price``, prices by machine, USD/h."""
    option = click.option(
        "--price",
        "prices",
        multiple=True,
        callback=_prices,
        metavar="MACHINE=USD/h",
        help="Price of one machine; overrides its topology's.  Repeatable.",
    )
    return option(command)


def _prices(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Return prices, USD/h, by machine from texts ``MACHINE=USD``."""
    found: dict[str, float] = {}
    for text in values:
        name, _, number = text.partition("=")
        try:
            price = float(number.removesuffix("USD/h"))
        except ValueError:
            price = -1.0
        if not name or not 0.0 <= price < float("inf"):
            raise click.BadParameter(f"{text!r} is not MACHINE=USD_PER_HOUR", ctx, param)
        found[name] = price
    return found
