"use strict";
// Figures of the page: what they show, drawn by Plotly, downloadable as SVG, and their numbers as CSV.

const { cells, texts, looks } = JSON.parse(document.getElementById("data").textContent);

const MEASURES = {
  test_error: "test error (%)",
  train_accuracy: "training accuracy on mixed batches (%)",
  train_loss: "training loss on mixed batches",
};

function element(tag, { text, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

const fixed = (value, digits = 2) => (value === null || value === undefined ? "—" : value.toFixed(digits));
const signed = (value) => (value === null || value === undefined ? "—" : (value < 0 ? "" : "+") + value.toFixed(2));

// What a figure can be asked to draw beside the readings of one cell.
function linesOf(cell, choice) {
  const beside = choice === "readings" ? [cell] : cells.filter((other) =>
    other.table === cell.table && other.part === cell.part && other[choice] === cell[choice]);
  return beside.flatMap((other) =>
    (choice === "readings" ? other.readings : other.readings.slice(0, 1)).map((reading) => ({
      name: choice === "readings" ? reading.reading : other.name, cell: other, reading,
    })));
}

// --- the figures: each gives Plotly's data, its layout, and rows for a CSV ---------------------------------------------

function curves(cell, choice, measure) {
  const data = [], rows = [["line", "epoch", measure, "standard_deviation", "runs"]];
  const drawn = linesOf(cell, choice).filter(({ reading }) => reading.curves && reading.curves[measure]);
  drawn.slice(0, looks.length).forEach(({ name, reading }, place) => {
    const { epochs, n } = reading.curves, [mean, deviation] = reading.curves[measure], look = looks[place];
    const colour = look.colour || ink();
    const high = mean.map((value, i) => value + deviation[i]), low = mean.map((value, i) => value - deviation[i]);
    // Of some runs only the first and the last epoch are kept: two points are no curve.
    const few = epochs.length < 3, marker = { symbol: look.symbol, size: 7, color: colour };
    if (!few) {
      data.push({
        x: [...epochs, ...[...epochs].reverse()], y: [...high, ...low.reverse()], fill: "toself", fillcolor: colour,
        opacity: 0.15, line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: name,
      });
    }
    data.push({
      x: epochs, y: mean, name: `${name} (n = ${n}${few ? `; epochs ${epochs.join(" and ")} kept` : ""})`,
      mode: few ? "markers" : epochs.length > 40 ? "lines" : "lines+markers", legendgroup: name, marker,
      line: { color: colour, dash: look.dash, width: 2 },
      error_y: { array: deviation, visible: few && n > 1, color: colour },
    });
    epochs.forEach((epoch, i) => rows.push([name, epoch, mean[i], deviation[i], n]));
  });
  return { data, rows, layout: { xaxis: { title: { text: "epoch" } }, yaxis: { title: { text: MEASURES[measure] } } } };
}

function worsened(cell, choice, what, axis) {
  const data = [], rows = [["line", axis, "error", "standard_error", "runs"]];
  const points = (name, pairs, look, colour, extra) => {
    const x = pairs.map(([size]) => Number(size)), y = pairs.map(([, [mean]]) => mean);
    const spread = pairs.map(([, [, error]]) => error || 0);
    data.push({
      x, y, name, mode: "lines+markers", error_y: { array: spread, visible: spread.some(Boolean), color: colour },
      line: { color: colour, dash: look.dash, width: 2 }, marker: { symbol: look.symbol, size: 8 }, ...extra,
    });
    pairs.forEach(([size, [mean, error, n]]) => rows.push([name, size, mean, error, n]));
  };
  const sorted = (of) => Object.entries(of).sort(([a], [b]) => a - b);
  const drawn = linesOf(cell, choice).filter(({ reading }) => reading[what]);
  drawn.slice(0, looks.length).forEach(({ name, reading }, place) => {
    const look = looks[place];
    points(name, sorted(reading[what]), look, look.colour || ink(), {});
  });
  const printed = what === "attacked" ? sorted(cell.attack) : [];
  if (printed.length) {
    const pairs = printed.map(([size, error]) => [size, [error, null, null]]);
    points(`published, ${cell.name}`, pairs, { dash: "dot", symbol: "x" }, ink(), {});
  }
  return { data, rows, layout: { xaxis: { title: { text: axis } }, yaxis: { title: { text: "test error (%)" }, rangemode: "tozero" } } };
}

function seeds(cell) {
  const rows = [["reading", "seed", "error"]];
  const data = cell.readings.filter((reading) => reading.seeds).map(({ reading, seeds: found }, place) => {
    found.forEach(([seed, error]) => rows.push([reading, seed, error]));
    const look = looks[place];
    return {
      x: found.map(([, error]) => error), y: found.map(() => reading), name: reading, mode: "markers", type: "scatter",
      text: found.map(([seed]) => `seed ${seed}`), marker: { symbol: look.symbol, size: 9, opacity: 0.6, color: look.colour || ink() },
    };
  });
  if (cell.published !== null && data.length) {
    data.push({
      x: data.map(() => cell.published), y: data.map(({ name }) => name), name: "published", mode: "markers",
      marker: { symbol: "line-ns-open", size: 22, line: { width: 3 }, color: ink() },
    });
  }
  const layout = { xaxis: { title: { text: "test error (%), a point a run" } }, yaxis: { type: "category", automargin: true } };
  return { data, rows, layout };
}

function heat(found, name, measure) {
  // A reading that does not touch a cell is not among its own: it is the first one's.
  const read = (cell) => cell.readings.find(({ reading }) => reading === name) ?? cell.readings[0];
  const value = (cell) => ({ ours: read(cell).mean, published: cell.published, difference: read(cell).difference }[measure]);
  const rows = [["row", "alpha", "ours", "standard_error", "n", "published", "difference"]];
  found.forEach((cell) => {
    const of = read(cell);
    rows.push([cell.row, cell.alpha, of.mean, of.error, of.n, cell.published, of.difference]);
  });
  const names = [...new Set(found.map((cell) => cell.row))];
  const alphas = [...new Set(found.map((cell) => cell.alpha))].sort((a, b) => order(a) - order(b));
  const at = (row, alpha) => found.find((cell) => cell.row === row && cell.alpha === alpha);
  const z = names.map((row) => alphas.map((alpha) => { const cell = at(row, alpha); return cell ? value(cell) ?? null : null; }));
  const written = z.map((line) => line.map((error) => (error === null ? "" : error.toFixed(2))));
  const both = measure === "difference", widest = Math.max(...z.flat().map((error) => Math.abs(error ?? 0)));
  const style = getComputedStyle(document.documentElement);
  const [blue, orange] = ["--blue", "--orange"].map((name) => style.getPropertyValue(name).trim());
  const scale = both ? [[0, blue], [0.5, "#f7f7f7"], [1, orange]] : [[0, "#f7f7f7"], [1, orange]];
  const shown = both ? z : z.map((line) => line.map((error) => (error === null ? null : Math.log10(error + 0.5))));
  const ticks = [0, 0.5, 1, 2, 5, 10, 20, 50, 100];
  const data = [{
    type: "heatmap", z: shown, x: alphas.map((alpha) => (alpha === "0" ? "none" : alpha)), y: names, text: written,
    texttemplate: "%{text}", textfont: { color: "#111" }, colorscale: scale, hoverongaps: false, xgap: 2, ygap: 2,
    hovertemplate: "%{y}, alpha = %{x}: %{text}<extra></extra>",
    ...(both ? { zmin: -widest, zmax: widest } : {}),
    colorbar: {
      title: { text: both ? "points" : "%" },
      ...(both ? {} : { tickvals: ticks.map((tick) => Math.log10(tick + 0.5)), ticktext: ticks.map(String) }),
    },
  }];
  const layout = {
    showlegend: false,
    xaxis: { title: { text: "alpha" }, type: "category" }, yaxis: { type: "category", autorange: "reversed", automargin: true },
  };
  return { data, rows, layout };
}

const order = (alpha) => (alpha === "inf" ? Infinity : Number(alpha));
const ink = () => (lightPage() ? "#333333" : "#dddddd");

function lightPage() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "light" : !matchMedia("(prefers-color-scheme: dark)").matches;
}

// --- drawing and downloading ------------------------------------------------------------------------------------------

function dressed(layout, colours) {
  const axis = { gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.ink };
  return {
    margin: { l: 60, r: 15, t: 15, b: 50 }, paper_bgcolor: colours.page, plot_bgcolor: colours.page,
    font: { family: "system-ui, sans-serif", size: 13, color: colours.ink }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    showlegend: true, ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
}

const LIGHT = { page: "#ffffff", ink: "#1b1d21", line: "#d9dbe0" };
const DARK = { page: "#16181c", ink: "#ececec", line: "#454a53" };

// Plotly is large, and most readers look at numbers first: it runs when it is needed.
function plotly() {
  const source = document.getElementById("plotly");
  if (source.type === "text/plain") {
    source.replaceWith(element("script", { id: "plotly", text: source.textContent }));
  }
  return window.Plotly;
}

function draw(plot, { data, layout }, label) {
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", label);
  const options = { displayModeBar: false, responsive: true };
  return plotly().react(plot, data, dressed(layout, lightPage() ? LIGHT : DARK), options);
}

function save(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const quoted = (entry) => {
  const text = entry === null || entry === undefined ? "" : String(entry);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";

// A figure with its buttons; `controls` are selects, and `make` gives the figure that they ask for.
function figure(title, name, controls, make, label) {
  const plot = element("div", { className: "plot" });
  const caption = element("figcaption", {}, element("span", { text: title }));
  const selects = controls.map(({ label: says, options }) => {
    const select = element("select", {}, ...Object.entries(options).map(([value, text]) => element("option", { value, text })));
    caption.append(element("label", {}, `${says} `, select));
    return select;
  });
  const made = () => make(...selects.map((select) => select.value));
  const show = () => draw(plot, made(), label(made()));
  selects.forEach((select) => select.addEventListener("change", show));
  const svg = element("button", { type: "button", text: "SVG", title: "Download the figure" });
  svg.addEventListener("click", async () => {
    const { data, layout } = made();
    const url = await plotly().toImage({ data, layout: dressed(layout, LIGHT) }, { format: "svg", width: 800, height: 450 });
    save(`${name}.svg`, decodeURIComponent(url.slice(url.indexOf(",") + 1)), "image/svg+xml");
  });
  const table = element("button", { type: "button", text: "CSV", title: "Download its data" });
  table.addEventListener("click", () => save(`${name}.csv`, csv(made().rows), "text/csv"));
  caption.append(svg, table);
  return { element: element("figure", {}, caption, plot), show };
}
