"""What a job of any kind may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from planner.schema import Record


class Budget(Record):
    """Limits on what a job may use: whole GPUs, money per hour."""

    gpus: int | None = Field(default=None, ge=1)
    price: Annotated[float, Field(gt=0)] | None = None
