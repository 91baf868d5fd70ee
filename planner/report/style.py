"""The style sheet: fixed rules from a file, colours from the palette in a light and a dark scheme."""

from __future__ import annotations

from importlib.resources import files

from planner.report.palette import CATEGORIES, HUES, LOAD_DARK, LOAD_LIGHT, steps


def asset(name: str) -> str:
    """Return the text of a file beside the page template."""
    return (files("planner.report") / "templates" / name).read_text(encoding="utf-8")


def drawing_css(num_groups: int) -> str:
    """Return the rules that drawings need: colours of loads and uses, chips, wires, cells."""
    light = ";".join(f"--u{step}:{colour}" for step, colour in enumerate(LOAD_LIGHT))
    dark = ";".join(f"--u{step}:{colour}" for step, colour in enumerate(LOAD_DARK))
    rules = [f":root{{{light}}}", f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"]
    for step in range(len(LOAD_LIGHT)):
        rules.append(f".u{step}{{stroke:var(--u{step});stroke-width:{1.8 + 0.45 * step:.2f}px}}")
        rules.append(f".fill-u{step}{{fill:var(--u{step});background:var(--u{step})}}")
    rules += [f".k{index}{{--k:{colour}}}" for index, colour in enumerate(steps(max(1, num_groups)))]
    return asset("drawing.css") + "\n".join(rules)


def chart_css() -> str:
    """Return the colours of the charts: parts of a stack and categories of a timeline."""
    rules = [f".p{index}{{--k:{colour}}}" for index, colour in enumerate(HUES)]
    rules += [f".t-{name}{{--k:{colour}}}" for name, colour in CATEGORIES.items()]
    return "\n".join(rules)
