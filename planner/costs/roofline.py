"""Time of an operator of which only operations and bytes are known.

References
----------
.. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
   Architectures", CACM, 2009.
"""

from __future__ import annotations

from planner.costs.coefficients import Calibration, device_rates
from planner.topology import Device


def operator_seconds(
    flops: float, traffic: float, device: Device, precision: str, calibration: Calibration
) -> float:
    """Return the time of one operator on a device, s: the longer of computing and moving, and its start.

    Parameters
    ----------
    flops
        Operations.
    traffic
        Bytes read from and written to device memory.
    """
    rates = device_rates(device, precision, calibration)
    compute = flops / (rates.matmul * calibration.number("matmul_efficiency"))
    return rates.overhead + max(compute, traffic / rates.memory)
