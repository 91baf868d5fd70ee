"use strict";
(() => {
  const tip = document.getElementById("tip");

  // Hover texts are SVG titles; with scripts they become one styled tooltip.
  const holder = (start) => {
    for (let e = start; e && e.nodeType === 1 && e.tagName !== "svg"; e = e.parentNode) {
      if (e.dataset && e.dataset.tip) return e;
      const own = [...e.children].find((child) => child.tagName === "title");
      if (own) { e.dataset.tip = own.textContent; own.remove(); return e; }
    }
    return null;
  };
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
  };
  const show = (text, x, y) => { tip.textContent = text; tip.hidden = false; place(x, y); };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointermove", (event) => {
    const found = event.target.closest && event.target.closest("svg") ? holder(event.target) : null;
    if (found) show(found.dataset.tip, event.clientX, event.clientY); else hide();
  });
  document.addEventListener("scroll", hide, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // In a drawing, one tab stop; arrow keys walk from chip to chip.
  for (const drawing of document.querySelectorAll(".roles svg.drawing")) {
    const chips = [...drawing.querySelectorAll(".chip")];
    if (!chips.length) continue;
    drawing.setAttribute("role", "group");
    chips.forEach((chip, index) => {
      const text = [...chip.children].find((child) => child.tagName === "title");
      chip.setAttribute("role", "img");
      chip.setAttribute("aria-label", text ? text.textContent : "");
      chip.setAttribute("tabindex", index ? "-1" : "0");
      chip.addEventListener("focus", () => {
        setTimeout(() => { // after the scrolling that the focus may cause, which hides the tooltip
          const box = chip.getBoundingClientRect();
          if (document.activeElement === chip) show(chip.getAttribute("aria-label"), box.left, box.bottom - 12);
        }, 60);
      });
      chip.addEventListener("blur", hide);
    });
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const at = chips.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = chips[(at + step + chips.length) % chips.length];
      chips[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }

  // The search looks through names only and writes text only.
  const index = JSON.parse(document.getElementById("index").textContent);
  const form = document.querySelector(".search");
  const input = document.getElementById("search");
  const list = document.getElementById("found");
  const cells = [...document.querySelectorAll(".cell")].map((cell) => [Number(cell.dataset.n), cell]);
  const chips = [...document.querySelectorAll("[data-part]")];
  cells.sort((a, b) => a[0] - b[0]);
  const cellOf = (node) => {
    let low = 0, high = cells.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (cells[middle][0] <= node) low = middle; else high = middle - 1;
    }
    return cells.length ? cells[low][1] : null;
  };
  const doing = (node, gpu) => {
    const uses = index.uses && index.uses[node] && index.uses[node][gpu];
    if (!uses) return "";
    return uses.map(([group, detail]) => index.groups[group] + ", " + detail).join("; ") || "not used";
  };
  const MOST = 60;
  const search = () => {
    const words = input.value.trim().toLowerCase();
    list.replaceChildren();
    for (const [, cell] of cells) cell.classList.remove("found", "dimmed");
    for (const chip of chips) chip.classList.remove("found");
    if (!words) return;
    const rows = [], marked = new Set();
    let total = 0;
    const add = (name, text, node) => {
      total += 1;
      const cell = cellOf(node);
      if (cell) marked.add(cell);
      if (rows.length < MOST) rows.push([name, text]);
    };
    index.nodes.forEach((name, node) => {
      const type = index.type[node];
      if (name.toLowerCase().includes(words)) {
        add(name, index.machines[type] + ", " + index.gpus[type].length + " GPUs", node);
      } else {
        index.gpus[type].forEach((gpu, place) => {
          const full = name + "/" + gpu;
          if (full.toLowerCase().includes(words)) add(full, doing(node, place), node);
        });
      }
    });
    for (const [, cell] of cells) cell.classList.add(marked.has(cell) ? "found" : "dimmed");
    for (const chip of chips) {
      if (chip.dataset.part.toLowerCase().includes(words)) chip.classList.add("found");
    }
    const lines = document.createElement("ul");
    for (const [name, text] of rows) {
      const line = document.createElement("li"), strong = document.createElement("strong"), rest = document.createElement("span");
      strong.textContent = name; rest.textContent = text; rest.className = "quiet";
      line.append(strong, rest); lines.append(line);
    }
    const sum = document.createElement("p");
    sum.className = "quiet";
    sum.textContent = total ? total.toLocaleString("en") + " found" + (total > rows.length ? ", the first " + rows.length + " listed" : "") : "nothing found";
    list.append(sum, lines);
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  input.addEventListener("input", search);

  for (const slider of document.querySelectorAll("[data-zoom]")) {
    slider.parentNode.hidden = false;
    const canvas = document.getElementById(slider.dataset.zoom), box = canvas.parentNode;
    slider.addEventListener("input", () => {
      const middle = (box.scrollLeft + box.clientWidth / 2) / canvas.clientWidth;
      canvas.style.width = 100 * 2 ** slider.value + "%";
      box.scrollLeft = middle * canvas.clientWidth - box.clientWidth / 2;
    });
  }

  // The slider over the map: at the left end the mean of the whole run, then one interval after the other.
  const data = document.getElementById("moments");
  if (!data) return;
  const { limits, edges, series } = JSON.parse(data.textContent);
  const slider = document.getElementById("moment"), said = document.getElementById("moment-text");
  const play = document.getElementById("play");
  const links = [...document.querySelectorAll("#machine .wire, #machine [data-series]")].map((link) => {
    const own = [...link.children].find((child) => child.tagName === "title");
    if (own) { link.dataset.tip = own.textContent; own.remove(); }
    const text = link.dataset.tip || "";
    return { link, text, class_: link.getAttribute("class"), uses: series[link.dataset.series] };
  });
  const paint = () => {
    const at = Number(slider.value) - 1;
    const when = at < 0 ? "mean of the whole run" : edges[at] + " to " + edges[at + 1];
    let busiest = null, busy = 0, known = 0;
    for (const { link, text, class_, uses } of links) {
      const use = at < 0 ? null : uses && uses[at];
      const step = uses ? limits.filter((limit) => use >= limit).length : "x";
      link.setAttribute("class", at < 0 ? class_ : class_.replace(/(^|-| )u[0-9x]/, "$1u" + step));
      link.dataset.tip = at < 0 ? text : text + (uses ? "; at this time " + use + " %" : "; not simulated");
      if (at < 0 || !uses) continue;
      known += 1;
      if (use >= 50) busy += 1;
      if (!busiest || use > busiest.use) busiest = { use, name: text.split(": ")[0] };
    }
    slider.setAttribute("aria-valuetext", when);
    said.textContent = when + (busiest ? " · " + busy + " of " + known + " drawn links at 50 % or more; busiest " + busiest.name + ", " + busiest.use + " %" : "");
  };
  let ticking = 0;
  const stop = () => {
    clearInterval(ticking);
    ticking = 0;
    play.textContent = "Play";
    said.setAttribute("aria-live", "polite");
  };
  play.addEventListener("click", () => {
    if (ticking) { stop(); return; }
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "Pause";
    said.setAttribute("aria-live", "off"); // spoken once, where it stops
    ticking = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      paint();
      if (slider.value === slider.max) stop();
    }, 120);
  });
  slider.addEventListener("input", () => { stop(); paint(); });
  slider.closest(".moment").hidden = false;
  paint();
})();
