"""What a job of any kind may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from planner.schema import Record


class Budget(Record):
    """Limits on what a job may use.

    Attributes
    ----------
    gpus
        Most GPUs.
    price
        Most that its GPUs may cost, USD/h: each its share of the price of its machine, the dearest for all.
    """

    gpus: int | None = Field(default=None, ge=1)
    price: Annotated[float, Field(gt=0)] | None = None
