"""Quantities with units as options of commands."""

from __future__ import annotations

import click

from planner.errors import UnitError
from planner.units import parse


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Return a positive time, s, from text such as ``60s`` or ``5min``; a bare number is seconds.

    Raises
    ------
    click.BadParameter
        If it is no such quantity.
    """
    text = value.strip()
    try:
        number = float(text) if text.replace(".", "", 1).isdigit() else parse(text, "s")
    except UnitError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if number <= 0.0:
        raise click.BadParameter(f"{text} is not above zero", ctx, param)
    return number
