"""Colours: a scale for link load, steps for stages, hues for parts; width, text or order tells the same."""

from __future__ import annotations

from dataclasses import dataclass

LOAD_LIMITS = (0.05, 0.25, 0.5, 0.75, 0.95)
LOAD_LABELS = ("idle", "5 %", "25 %", "50 %", "75 %", "95 %")
# Lightness falls steadily over the light scale and rises over the dark one, so that the order survives
# every kind of colour blindness and a grey print; busier links are also drawn wider.
LOAD_LIGHT = ("#d0d8e2", "#9cc3ea", "#5a96d8", "#6f63cf", "#a02f9b", "#8e0f3c")
LOAD_DARK = ("#3b4656", "#3f6ea5", "#5b9be6", "#a58bf2", "#f08bd0", "#ffd166")

# Paul Tol's "bright" and "muted" schemes, distinguishable under colour blindness.
HUES = (
    "#4477aa", "#ee8866", "#44aa99", "#aa3377", "#ccbb44", "#66ccee", "#882255", "#999933",
    "#777777", "#7a6fd0", "#cc6677", "#2f7d46",
)  # fmt: skip
_RAMP = ((70, 50, 126), (54, 92, 141), (39, 127, 142), (31, 161, 135), (74, 193, 109), (190, 210, 45))


def load_step(utilisation: float | None) -> str:
    """Return the CSS class of a link that is used to this share; of an unknown load when ``None``."""
    if utilisation is None:
        return "ux"
    return f"u{sum(utilisation >= limit for limit in LOAD_LIMITS)}"


def steps(count: int) -> tuple[str, ...]:
    """Return ``count`` colours: distinct hues when few, an even ramp from dark blue to lime when many."""
    if count <= 8:
        return HUES[:count]
    return tuple(_ramp(index / (count - 1)) for index in range(count))


def _ramp(position: float) -> str:
    place = position * (len(_RAMP) - 1)
    index = min(int(place), len(_RAMP) - 2)
    share = place - index
    mixed = (round(a + (b - a) * share) for a, b in zip(_RAMP[index], _RAMP[index + 1], strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


@dataclass(frozen=True)
class Swatch:
    """One entry of a legend: CSS class and text."""

    class_: str
    label: str


# Dark enough for white names on them.
CATEGORIES = {
    "forward": "#3a6ea5",
    "backward": "#2a7f72",
    "communication": "#c4622d",
    "optimizer": "#93306d",
    "prefill": "#3a6ea5",
    "decode": "#2a7f72",
    "cpu": "#857519",
    "copy": "#c4622d",
    "idle": "#7b8796",
}
