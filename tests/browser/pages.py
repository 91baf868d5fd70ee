"""What scripts in the page tell about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

INVISIBLE = """() => [...document.querySelectorAll("svg")]
  .filter((svg) => !svg.closest("details:not([open])"))
  .filter((svg) => {
    const box = svg.getBoundingClientRect();
    const hidden = getComputedStyle(svg).visibility !== "visible";
    return box.width < 4 || box.height < 4 || !svg.children.length || hidden;
  })
  .map((svg) => svg.getAttribute("class") + ": " + svg.getAttribute("aria-label"))"""

# WCAG 2.2: contrast of text with the nearest opaque background behind it, outside drawings.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 220) return colour;
    }
    return rgba(getComputedStyle(document.documentElement).backgroundColor);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("svg, script, .hidden, .skip") || element.hidden) continue;
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(style.color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), least = size >= (style.fontWeight >= 700 ? 18.66 : 24) ? 3 : 4.5;
    if (ratio < least) found.push(element.textContent.trim().slice(0, 40) + ": " + ratio.toFixed(2));
  }
  return found;
}"""

# What sticks out on the right, outside the regions that may scroll sideways.
OVERFLOWING = """() => {
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide <= 0) return [];
  return [...document.querySelectorAll("body *")]
    .filter((e) => !e.closest(".scroll, nav .wide, svg"))
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5)
    .map((e) => e.tagName + "." + e.className)
    .concat(["the page is " + wide + " px too wide"]);
}"""


def ask(page: Page, script: str) -> Any:
    """Return what a script answers."""
    return page.evaluate(script)


def load_seconds(page: Page) -> float:
    """Return the time from the start of the navigation until the page had loaded, s."""
    entry = "performance.getEntriesByType('navigation')[0]"
    return float(page.evaluate(f"{entry}.loadEventEnd - {entry}.startTime")) / 1000.0
