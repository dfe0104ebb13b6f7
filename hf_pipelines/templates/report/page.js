"use strict";
(() => {
  // Without a movement for so long the page stands still.
  const REST_MS = 200;

  const unpacked = async (id) => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };

  // Colours are names of the style sheet's, so that light and dark have their own.
  const styled = () => getComputedStyle(document.documentElement);
  const mixed = (name, part) => `color-mix(in srgb, ${name}, transparent ${part})`;
  const plain = (() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    return (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
    };
  })();
  const coloured = (value, style) => {
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, each]) =>
        [name, /color/.test(name) || typeof each === "object" ? coloured(each, style) : each]));
    }
    if (typeof value !== "string") return value;
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    // Numbers stand on them: the ends are as far from the page as letters are still read.
    const end = (name) => plain(`color-mix(in srgb, ${colour(name)} 62%, ${colour("back")})`);
    if (value === "scale:diverging") return [[0, end("bad")], [0.5, plain(colour("back"))], [1, end("own")]];
    if (value === "scale:rising") return [[0, plain(colour("back"))], [1, end("own")]];
    if (!value.startsWith("role:")) return value;
    const [, role, fill] = value.split(":");
    return plain(fill ? mixed(colour(role), "65%") : colour(role));
  };

  const draw = (holder, figure) => {
    const style = styled(), text = style.getPropertyValue("--text").trim(), line = style.getPropertyValue("--line").trim();
    const room = holder.parentElement.clientWidth, narrow = room < 600;
    const { data, layout } = coloured(figure, style);
    // Numbers in cells and names below bars that a telephone has no room for: the first are moved sideways, the others get height.
    const least = data[0] && data[0].type === "heatmap" ? 90 + 46 * data[0].x.length : 0;
    holder.style.width = least > room ? `${least}px` : "";
    if (narrow && layout.xaxis.type === "category" && Math.max(...data.map((each) => each.x.length)) > 12 && !least) layout.height += 140;
    const axis = (given) => ({ gridcolor: line, zerolinecolor: line, linecolor: line, ...given,
      title: { ...given.title, font: { size: 12 }, standoff: 6 } });
    return Plotly.react(holder, data, {
      ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
      margin: { l: 54, r: 12, t: 10, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, size: 12, family: "system-ui, sans-serif" }, hovermode: layout.hovermode || "x unified",
      hoverlabel: { bgcolor: style.getPropertyValue("--card").trim(), font: { color: text } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } }, dragmode: narrow ? false : "zoom",
    }, { displaylogo: false, responsive: true, displayModeBar: false });
  };

  const start = async () => {
    const figures = JSON.parse(await unpacked("figures"));
    const library = document.createElement("script");
    library.textContent = await unpacked("library");
    document.head.append(library);
    const shown = new Set(), near = new Set();
    let scrolledAt = -REST_MS, waits = false;
    // A chart takes several frames to draw: while the page moves its picture stands for it.
    const drawNear = () => {
      waits = false;
      const rested = performance.now() - scrolledAt;
      if (rested < REST_MS) return later(REST_MS - rested);
      const middle = window.innerHeight / 2;
      const away = (holder) => {
        const { top, bottom } = holder.closest("figure").getBoundingClientRect();
        return Math.abs((top + bottom) / 2 - middle);
      };
      const holder = [...near].sort((one, other) => away(one) - away(other))[0];
      if (!holder) return;
      near.delete(holder);
      shown.add(holder);
      holder.closest("figure").classList.add("drawn");
      draw(holder, figures[holder.dataset.chart]);
      later(0);
    };
    const later = (delay) => {
      if (!waits && near.size) setTimeout(drawNear, delay);
      waits = near.size > 0;
    };
    addEventListener("scroll", () => { scrolledAt = performance.now(); }, { passive: true });
    // Opening does not wait for those below.
    const watch = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        const holder = target.querySelector("[data-chart]");
        if (shown.has(holder)) continue;
        if (isIntersecting) near.add(holder); else near.delete(holder);
      }
      later(0);
    }, { rootMargin: "600px" });
    const holders = [...document.querySelectorAll("[data-chart]")];
    // Its picture keeps the place until then.
    holders.forEach((holder) => watch.observe(holder.closest("figure")));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      shown.forEach((holder) => draw(holder, figures[holder.dataset.chart])));
    document.documentElement.dataset.ready = holders.length;
  };

  const sorted = (header) => {
    const table = header.closest("table"), at = [...header.parentElement.children].indexOf(header);
    const rising = header.getAttribute("aria-sort") !== "ascending";
    const key = (row) => {
      const cell = row.children[at], value = cell.dataset.value;
      if (value === "") return null;
      return value === undefined ? cell.textContent.trim() : Number.isNaN(Number(value)) ? value : Number(value);
    };
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    // What is undefined stands last, whichever way.
    rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 :
      (rising ? 1 : -1) * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
    table.tBodies[0].append(...rows.map(([, row]) => row));
    for (const each of header.parentElement.children) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  };
  for (const header of document.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sorted(header));
    header.replaceChildren(button);
  }
  for (const button of document.querySelectorAll("button.all")) {
    button.addEventListener("click", () => {
      button.closest(".table").classList.add("everything");
      button.remove();
    });
  }
  start().catch((error) => { document.documentElement.dataset.failed = String(error); });
})();
