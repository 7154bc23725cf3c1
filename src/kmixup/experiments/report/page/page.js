// The page: theme, copying, filters, and what a cell opens.

const root = document.documentElement, dialog = document.getElementById("cell"), said = document.getElementById("said");
const shownFigures = new Set();
const redraw = () => shownFigures.forEach((show) => show());

// --- theme: the system's, or the one that was chosen ------------------------------------------------------------------

const theme = document.getElementById("theme"), THEMES = ["", "light", "dark"];
let chosen = "";
try { chosen = localStorage.getItem("kmixup-theme") || ""; } catch { /* a browser that keeps nothing for files */ }

function paint() {
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  theme.textContent = `Theme: ${chosen || "system"}`;
  redraw();
}

theme.hidden = false;
theme.addEventListener("click", () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  try { localStorage.setItem("kmixup-theme", chosen); } catch { /* as above */ }
  paint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
paint();

// --- copying ----------------------------------------------------------------------------------------------------------

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    said.textContent = "Command copied.";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } catch { // not allowed here: selected, for the keyboard
    getSelection().selectAllChildren(code);
    said.textContent = "Command selected: copy it with the keyboard.";
  }
}

const command = (text) => element("p", { className: "command" }, element("code", { text }), " ",
  element("button", { type: "button", text: "Copy", "data-copy": "" }));

// --- filters ----------------------------------------------------------------------------------------------------------

const form = document.getElementById("filters"), CHOICES = ["table", "dataset", "method", "k", "alpha"];
const places = [...document.querySelectorAll("td.cell")].map((td) => ({
  td, values: { ...td.dataset, table: cells[td.firstElementChild.dataset.cell].table },
}));

for (const name of CHOICES) {
  const values = [...new Set(places.map(({ values: of }) => of[name]))];
  if (name === "k" || name === "alpha") values.sort((a, b) => order(a) - order(b));
  form.elements[name].append(...values.map((value) => element("option", { value, text: value })));
}

function filter() {
  const wanted = CHOICES.filter((name) => form.elements[name].value);
  let count = 0;
  for (const { td, values } of places) {
    const fits = wanted.every((name) => values[name] === form.elements[name].value) &&
      (!form.elements.ran.checked || "ran" in values);
    td.classList.toggle("off", !fits);
    count += fits;
  }
  for (const grid of document.querySelectorAll("section.grid")) {
    const rows = [...grid.querySelectorAll("table.heat > tbody > tr")];
    const on = (td) => td.matches(".cell:not(.off)");
    rows.forEach((row) => { row.hidden = ![...row.children].some(on); });
    grid.hidden = rows.every((row) => row.hidden);
    // A column goes with its last cell; cells that span all columns stay.
    grid.querySelectorAll("thead th").forEach((head, place) => {
      const column = rows.map((row) => row.children[place]).filter((td) => td && td.colSpan === 1);
      const gone = place > 0 && column.length > 0 && !column.some(on);
      [head, ...column].forEach((td) => { td.hidden = gone && td.tagName !== "TH" || gone && td === head; });
    });
  }
  for (const table of document.querySelectorAll("section.table")) {
    table.hidden = [...table.querySelectorAll("section.grid")].every((grid) => grid.hidden);
  }
  document.body.dataset.colour = form.elements.colour.value;
  document.body.classList.toggle("no-readings", !form.elements.readings.checked);
  form.elements.count.value = `${count} of ${places.length} cells`;
}

form.hidden = false;
form.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
filter();

// --- what a cell opens ------------------------------------------------------------------------------------------------

const LINES = { readings: "readings of this cell", alpha: "all rows at this alpha", row: "all alpha of this row" };

// JSON has no infinite number: it comes as the text that is shown.
const digits = (value, count) => (typeof value === "number" ? value.toPrecision(count) : value);

const FACTS = [
  ["ours ± standard error (n)", (of) => of.text],
  ["published", (of, cell) => fixed(cell.published)],
  ["difference", (of) => signed(of.difference)],
  ["seeds", (of) => `${of.n} of ${of.trials}`],
  ["what differs", (of) => of.notes && of.notes.join("; ")],
  ["alpha_k that trained", (of) => digits(of.alpha_k, 3)],
  ["xi of k and alpha_k", (of) => digits(of.xi_k, 3)],
  ["squared distance, matched", (of) => of.match && digits(of.match.matched_sq_distance, 4)],
  ["squared distance, unmatched", (of) => of.match && digits(of.match.unmatched_sq_distance, 4)],
  ["pairs of one class", (of) => of.match && `${fixed(100 * of.match.same_class_share, 1)} %`],
  ["pairs with oneself", (of) => of.match && `${fixed(100 * of.match.self_share, 1)} %`],
  ["negative log-likelihood, nats", (of) => digits(of.nll, 3)],
  ["expected calibration error", (of) => of.calibration !== undefined && `${fixed(of.calibration)} %`],
  ["seconds per run", (of) => digits(of.seconds, 3)],
  ["commit", (of) => texts[of.commits]],
  ["made on", (of) => texts[of.made]],
  ["data", (of) => texts[of.data]],
  ["protocol", (of) => texts[of.protocol]],
];

function facts(cell) {
  const head = element("tr", {}, element("th", { scope: "col", text: "reading" }),
    ...cell.readings.map(({ reading }) => element("th", { scope: "col", text: reading })));
  const rows = FACTS.map(([name, value]) => [name, cell.readings.map((of) => value(of, cell) || "")])
    .filter(([, values]) => values.some(Boolean))
    .map(([name, values]) => element("tr", {}, element("th", { scope: "row", text: name }),
      ...values.map((text) => element("td", { text }))));
  return element("div", { className: "wide", tabIndex: 0 },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

const fileName = (...parts) => parts.join("-").replace(/[^A-Za-z0-9.-]+/g, "-").toLowerCase();
const described = (title, cell) => ({ rows }) => `${title} of ${cell.table}, ${cell.part}, ${cell.name}: ${rows.length - 1} points. ` +
  "The button CSV gives its numbers.";

function figures(cell) {
  const has = (name) => cell.readings.some((reading) => reading[name]);
  const lines = { label: "Lines", options: LINES };
  const found = [];
  const add = (title, controls, make) => found.push(
    figure(title, fileName(cell.table, cell.part, cell.name, title), controls, make, described(title, cell)));
  if (has("curves")) {
    add("Learning curves: mean and standard deviation over runs", [{ label: "Measure", options: MEASURES }, lines],
      (measure, choice) => curves(cell, choice, measure));
  }
  if (has("attacked")) {
    add("Error under FGSM", [lines], (choice) => worsened(cell, choice, "attacked", "epsilon, in 1/255"));
  }
  if (has("noisy")) {
    add("Error under Gaussian noise", [lines], (choice) => worsened(cell, choice, "noisy", "standard deviation of the noise"));
  }
  if (has("seeds")) add("Every run", [], () => seeds(cell));
  return found;
}

function open(number) {
  const cell = cells[number], close = element("button", { type: "button", text: "Close", autofocus: true });
  close.addEventListener("click", () => dialog.close());
  const made = figures(cell);
  dialog.replaceChildren(
    element("header", {}, element("h2", { id: "cell-title", text: `${cell.table}, ${cell.part}: ${cell.name}` }), close),
    ...(made.length ? [] : [element("p", { text: "No run has finished yet. This runs it:" })]),
    ...cell.readings.map((reading) => command(texts[reading.command])),
    ...made.map((each) => each.element), facts(cell),
  );
  dialog.showModal();
  made.forEach(({ element: figure, show }) => whenSeen(figure, () => { shownFigures.add(show); show(); }));
}

// A click is answered at once; what cannot be seen yet is drawn when it can.
function whenSeen(seen, action) {
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    setTimeout(action);
  }, { rootMargin: "50px" }).observe(seen);
}

dialog.addEventListener("close", () => { shownFigures.clear(); dialog.replaceChildren(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && "copy" in button.dataset) copy(button);
  if (button && "cell" in button.dataset) open(button.dataset.cell);
});

// --- heat maps as figures: drawn when they are opened -----------------------------------------------------------------

for (const details of document.querySelectorAll("details.figure")) {
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const found = [...details.parentElement.querySelectorAll("[data-cell]")].map((button) => cells[button.dataset.cell]);
    const readings = Object.fromEntries(found.flatMap((cell) => cell.readings.map(({ reading }) => [reading, reading])));
    const options = { ours: "our error", published: "published error", difference: "difference" };
    const { table, part } = found[0];
    const made = figure(`${table}: ${part}`, fileName(table, part),
      [{ label: "Show", options }, { label: "Reading", options: readings }],
      (measure, reading) => heat(found, reading, measure),
      () => `Heat map of ${table}, ${part}; the table above has its numbers.`);
    details.append(made.element);
    made.show();
  });
}
