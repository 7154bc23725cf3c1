// The page: what is chosen, what follows from it, and what is shown. kmixupPlayground, at the end, is for scripts.

const MOST = 512, REDRAWS = 16, DRAWS = 2000, BUDGET = 8; // points; batches of the means; draws of D_i; ms per frame
const ORDER = 0, LAM = 1, MEANS = 2, LOCAL = 3; // purposes of the streams
const KS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
const ALPHAS = [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32, 64, 100, Infinity];
const NAMES = ["class 1", "class 2", "class 3"];

const at = (id) => document.getElementById(id);
const given = JSON.parse(at("given").textContent);
const chosen = { set: given.sets[0].name, n: MOST, k: 16, alpha: 1, seed: 0, pick: -1, together: null };
let own = { points: new Float64Array(0), classes: new Int32Array(0) };
let data, batch, cross = null, task = 0, told = 0, playing = 0;

const nearest = (stops, value) => stops.reduce((best, stop, i) => (Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best), 0);
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);
const inWords = (alpha) => (alpha === Infinity ? "inf" : String(alpha));
const drawn = () => chosen.set === "own";

/** Points and classes that are chosen; of a set the first n. */
function chooseData() {
  const set = given.sets.find(({ name }) => name === chosen.set);
  if (!set) return own;
  const n = Math.min(chosen.n, set.classes.length);
  return { points: Float64Array.from(set.points.slice(0, 2 * n)), classes: Int32Array.from(set.classes.slice(0, n)) };
}

/** Everything that follows from what is chosen, at once; means over redraws and D_i follow in the frames after. */
function update() {
  const start = performance.now();
  data = chooseData();
  const { points, classes } = data, n = classes.length;
  const k = Math.min(chosen.k, largestK(n));
  const order = shuffle(upTo(n), stream(chosen.seed, ORDER)), uniform = stream(chosen.seed, LAM);
  const partner = partnersOf(points, order, k), square = n ? matchedSqDistance(points, partner) : 0, all = meanSqDistance(points);
  if (chosen.pick >= n) chosen.pick = -1;
  batch = {
    ...data, k, order, partner,
    drawnLam: lamsAt(Float64Array.from(order, uniform), chosen.alpha),
    picked: chosen.pick, counts: new Int32Array(n), draws: 0,
    sameClass: n ? sameClass(classes, partner) : null,
    intrusion: intrusion(points, classes, partner),
    sqDistance: square,
    relativeDistance: all ? Math.sqrt(square / all) : null,
    xi: Math.sqrt(minLamSq(chosen.alpha) * square),
    means: null,
  };
  mixLam();
  draw(); // before the text changes: afterwards the browser would lay out the page first
  showControls();
  showNumbers();
  batch.milliseconds = performance.now() - start;
  askAgain();
}

function mixLam() {
  batch.lam = chosen.together === null ? batch.drawnLam : new Float64Array(batch.partner.length).fill(chosen.together);
}

// --- shown ------------------------------------------------------------------------------------------------------------

function palette() {
  const look = getComputedStyle(document.documentElement), of = (name) => look.getPropertyValue(`--${name}`).trim();
  return {
    colours: [of("class-1"), of("class-2"), of("class-3")], mixed: of("mixed"), across: of("ink"), ink: of("ink"),
    paper: of("paper"), faint: of("faint"), picked: of("picked"),
  };
}

const UNIT = Float64Array.of(-1, -1, 1, 1);

/** Own points live in a square of their own, so that it stays where it is while one draws; larger ones are fitted. */
function view(canvas) {
  const within = drawn() && data.points.every((value) => Math.abs(value) <= 1.08);
  return viewOf(within ? UNIT : data.points, canvas.clientWidth);
}

function draw() {
  const colours = palette();
  drawCouplings(at("couplings"), view(at("couplings")), { ...batch, cross }, colours);
  drawVicinal(at("vicinal"), view(at("vicinal")), batch, colours);
  drawDistribution(at("local"), view(at("local")), batch, colours);
}

function showControls() {
  const n = batch.classes.length, ks = KS.filter((k) => k <= largestK(n));
  at("set").value = chosen.set;
  at("n").disabled = drawn();
  at("n").value = drawn() ? n : chosen.n;
  at("k").max = Math.max(ks.length - 1, 1);
  at("k").disabled = ks.length < 2;
  at("k").value = nearest(ks, batch.k);
  at("alpha").max = ALPHAS.length - 1;
  at("alpha").value = ALPHAS.includes(chosen.alpha) ? ALPHAS.indexOf(chosen.alpha) : nearest(ALPHAS.slice(0, -1), chosen.alpha);
  at("seed").value = chosen.seed;
  at("pick").max = n;
  at("pick").value = chosen.pick + 1;
  at("pick").disabled = !n;
  at("together").checked = chosen.together !== null;
  at("lam").disabled = chosen.together === null;
  if (chosen.together !== null) at("lam").value = chosen.together;
  for (const [id, text] of [
    ["n", `${n}`], ["k", `${batch.k}`], ["alpha", inWords(chosen.alpha)],
    ["pick", chosen.pick < 0 ? "none" : `${chosen.pick + 1}`],
    ["lam", chosen.together === null ? "drawn" : chosen.together.toFixed(2)],
  ]) {
    at(`${id}-is`).textContent = text;
    at(id).setAttribute("aria-valuetext", text);
  }
  at("code").textContent = `KMixup(k=${batch.k}, alpha=${chosen.alpha === Infinity ? 'float("inf")' : chosen.alpha}, lam_per="sample")`;
  at("empty").hidden = n > 1;
}

function showNumbers() {
  const { means } = batch, mean = (name) => (means ? `${(100 * means[name].mean).toFixed(1)} ± ${percent(means[name].stdError)}` : "…");
  const rows = {
    same: percent(batch.sameClass), intrusion: percent(batch.intrusion),
    "same-mean": batch.sameClass === null ? "–" : mean("sameClass"),
    "intrusion-mean": batch.intrusion === null ? "–" : mean("intrusion"),
    relative: percent(batch.relativeDistance), xi: batch.xi.toPrecision(3), local: localWords(),
  };
  for (const [id, text] of Object.entries(rows)) at(`${id}-is`.replace("local-is", "local-words")).textContent = text;
  clearTimeout(told);
  told = setTimeout(() => { // once it rests: not at every step of a slider
    at("said").textContent = summary();
    remember();
  }, 300);
}

function localWords() {
  const { picked, counts, draws, classes } = batch;
  if (picked < 0) return "Click a point on the left, or move the slider, to ask whom it is mixed with.";
  let same = 0, different = 0;
  counts.forEach((count, i) => {
    same += classes[i] === classes[picked] ? count : 0;
    different += count > 0;
  });
  const share = draws ? percent(same / draws) : "–";
  return `Point ${picked + 1}, ${NAMES[classes[picked]]}: ${different} different partners in ${draws} draws, ${share} of its class.`;
}

function summary() {
  const n = batch.classes.length;
  if (n < 2) return "Two points at least are needed.";
  return `${n} points, k = ${batch.k}, alpha = ${inWords(chosen.alpha)}: ${percent(batch.sameClass)} of pairs share a class, ` +
    `intrusion ${percent(batch.intrusion)}, partners at ${percent(batch.relativeDistance)} of the distance of random pairs, ` +
    `xi ${batch.xi.toPrecision(3)}. ${batch.picked < 0 ? "" : localWords()}`;
}

// --- what takes longer than a frame -----------------------------------------------------------------------------------

/** Means over redraws, then D_i: some at a time, so that sliders stay quick. What they come to does not hang on that. */
function askAgain() {
  cancelAnimationFrame(task);
  const { points, classes, k, picked, counts } = batch, n = classes.length;
  if (n < 2) return;
  const means = { sameClass: [], intrusion: [] }, order = upTo(n), scratch = upTo(n);
  const uniform = stream(chosen.seed, MEANS), local = stream(chosen.seed, LOCAL);
  const step = () => {
    const until = performance.now() + BUDGET;
    while (performance.now() < until) {
      if (picked >= 0 && batch.draws < DRAWS) {
        counts[localPartner(points, k, picked, local, scratch)]++;
        batch.draws++;
      } else if (means.sameClass.length < REDRAWS) {
        const partner = partnersOf(points, shuffle(order, uniform), k);
        means.sameClass.push(sameClass(classes, partner));
        means.intrusion.push(intrusion(points, classes, partner) ?? 0);
      } else break;
    }
    const done = means.sameClass.length === REDRAWS && (picked < 0 || batch.draws === DRAWS);
    if (done) batch.means = { sameClass: estimate(means.sameClass), intrusion: estimate(means.intrusion) };
    if (picked >= 0) drawDistribution(at("local"), view(at("local")), batch, palette());
    showNumbers();
    if (!done) task = requestAnimationFrame(step);
  };
  task = requestAnimationFrame(step);
}

// --- the address ------------------------------------------------------------------------------------------------------

/** The address holds all that is chosen, so that a link shows the same: #set=swiss-roll&k=16&alpha=1&seed=0&pick=3. */
function remember() {
  const parts = { set: chosen.set, n: chosen.n, k: chosen.k, alpha: inWords(chosen.alpha), seed: chosen.seed };
  if (chosen.pick >= 0) parts.pick = chosen.pick + 1;
  if (drawn()) {
    const three = (value) => +value.toFixed(3);
    parts.points = Array.from(own.classes, (c, i) => `${three(own.points[2 * i])},${three(own.points[2 * i + 1])},${c + 1}`).join(";");
  }
  history.replaceState(null, "", `#${Object.entries(parts).map(([name, value]) => `${name}=${value}`).join("&")}`);
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const set = parts.get("set"), refused = [];
  if (set === "own" || given.sets.some(({ name }) => name === set)) chosen.set = set;
  else if (set !== null) refused.push("set");
  const number = (name, low, high, whole = true) => {
    const value = parts.get(name) === "inf" ? Infinity : Number(parts.get(name) || NaN);
    if (!parts.has(name)) return;
    if (value >= low && value <= high && (!whole || Number.isInteger(value))) chosen[name] = value;
    else refused.push(name);
  };
  number("n", 2, MOST);
  number("k", 1, MOST / 2);
  number("alpha", 0, Infinity, false);
  number("seed", 0, 2 ** 32 - 1);
  number("pick", 1, MOST);
  if (parts.has("pick") && !refused.includes("pick")) chosen.pick -= 1;
  if (parts.has("points")) {
    try {
      const rows = parts.get("points").split(";").filter(Boolean).map((row) => row.split(",").map(Number));
      own = checked(rows.flatMap(([x, y]) => [x, y]), rows.map(([, , c]) => c - 1));
      chosen.set = "own";
    } catch {
      refused.push("points");
    }
  }
  at("refused").textContent = refused.length ? `Not understood in the address, and left out: ${refused.join(", ")}.` : "";
}

function checked(points, classes) {
  const n = classes.length;
  if (n > MOST || points.length !== 2 * n) throw new Error(`at most ${MOST} points, two numbers and a class each.`);
  if (![...points].every(Number.isFinite)) throw new Error("points must be finite numbers.");
  if (![...classes].every((c) => c === 0 || c === 1 || c === 2)) throw new Error("classes must be 0, 1 or 2.");
  return { points: Float64Array.from(points), classes: Int32Array.from(classes) };
}

// --- pointer and keys -------------------------------------------------------------------------------------------------

const action = () => document.querySelector("input[name=click]:checked").value;

/** What a click at these pixels of the couplings does: asks about a point, adds one, or erases. */
function act(x, y) {
  const place = view(at("couplings"));
  let least = Infinity, closest = -1;
  batch.classes.forEach((_, i) => {
    const square = (place.x(batch.points[2 * i]) - x) ** 2 + (place.y(batch.points[2 * i + 1]) - y) ** 2;
    if (square < least) [least, closest] = [square, i];
  });
  if (action() === "ask") {
    if (closest === chosen.pick || closest < 0) return;
    chosen.pick = closest;
  } else if (action() === "erase") {
    if (least > 14 ** 2) return;
    takeOver(place);
    own = { points: own.points.filter((_, i) => i >> 1 !== closest), classes: own.classes.filter((_, i) => i !== closest) };
    chosen.pick = -1;
  } else {
    if (batch.classes.length >= MOST || least < 4) return;
    takeOver(place);
    own = {
      points: Float64Array.of(...own.points, ...view(at("couplings")).invert(x, y)),
      classes: Int32Array.of(...own.classes, Number(action())),
    };
  }
  update();
}

/** A set that is drawn on becomes the reader's own, scaled to the square that those live in. */
function takeOver(place) {
  if (drawn()) return;
  const side = at("couplings").clientWidth, unit = viewOf(UNIT, side), points = data.points.slice();
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = unit.invert(place.x(points[i]), place.y(points[i + 1]));
    [points[i], points[i + 1]] = [x, y];
  }
  own = { points, classes: data.classes };
  chosen.set = "own";
}

function listen() {
  const changes = {
    set: (value) => { chosen.set = value; chosen.pick = -1; },
    n: (value) => { chosen.n = Number(value); },
    k: (value) => { chosen.k = KS[value]; },
    alpha: (value) => { chosen.alpha = ALPHAS[value]; },
    seed: (value) => { chosen.seed = Math.min(Math.max(Math.floor(Number(value)) || 0, 0), 2 ** 32 - 1); },
    pick: (value) => { chosen.pick = Number(value) - 1; },
  };
  for (const [id, change] of Object.entries(changes)) {
    at(id).addEventListener(id === "seed" || id === "set" ? "change" : "input", (event) => { change(event.target.value); update(); });
  }
  at("redraw").addEventListener("click", () => { chosen.seed = (chosen.seed + 1) % 2 ** 32; update(); });
  at("clear").addEventListener("click", () => {
    own = checked([], []);
    Object.assign(chosen, { set: "own", pick: -1 });
    if (action() === "ask") document.querySelector("input[name=click][value='0']").checked = true;
    update();
  });
  const lam = (value) => { chosen.together = value; mixLam(); showControls(); draw(); };
  at("together").addEventListener("change", (event) => { stop(); lam(event.target.checked ? Number(at("lam").value) : null); });
  at("lam").addEventListener("input", (event) => { stop(); lam(Number(event.target.value)); });
  at("play").addEventListener("click", () => {
    if (playing) { stop(); return; }
    at("play").textContent = "Stop";
    const start = performance.now();
    const step = (now) => {
      lam(Math.round(50 + 50 * Math.cos((now - start) / 1200)) / 100);
      playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
  });
  listenCanvas(at("couplings"));
  addEventListener("hashchange", () => { recall(); update(); });
  new ResizeObserver(draw).observe(at("couplings"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  at("play").textContent = "Play";
}

function listenCanvas(canvas) {
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    last = where(event);
    canvas.setPointerCapture(event.pointerId);
    act(...last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const [x, y] = where(event);
    if (Math.hypot(x - last[0], y - last[1]) < 10 || action() === "ask") return;
    last = [x, y];
    act(x, y);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("keydown", (event) => {
    const side = canvas.clientWidth, pace = event.shiftKey ? 20 : 5;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move) cross = (cross ?? [side / 2, side / 2]).map((value, i) => Math.min(Math.max(value + pace * move[i], 0), side));
    else if ((event.key === "Enter" || event.key === " ") && cross) act(...cross);
    else return;
    event.preventDefault();
    draw();
  });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) { cross ??= [canvas.clientWidth / 2, canvas.clientWidth / 2]; draw(); } });
  canvas.addEventListener("blur", () => { cross = null; draw(); });
}

for (const { name, title } of [...given.sets, { name: "own", title: "your points" }]) at("set").append(new Option(title, name));
at("version").textContent = given.version;
listen();
recall();
update();

/** For scripts: what is shown, other points and settings, and the functions that the pictures are made with. */
window.kmixupPlayground = Object.freeze({
  /** Show these: points [x0, y0, x1, y1, ...] and classes 0 to 2 of at most 512; any of set, n, k, alpha, seed, pick (from 0). */
  load({ points, classes, ...settings }) {
    if (points) {
      own = checked(points, classes);
      Object.assign(chosen, { set: "own", pick: -1 });
    }
    Object.assign(chosen, settings);
    update();
    return this.state();
  },
  /** Everything that is shown, as numbers: points, classes, order, partner, lam, counts of D_i, shares, distances. */
  state() {
    const plain = (value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
    const shown = { ...batch, alpha: chosen.alpha, seed: chosen.seed, set: chosen.set };
    return Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, plain(value)]));
  },
  assign: (cost, k) => Array.from(assign(Float64Array.from(cost), k)),
  lamsAt: (us, alpha) => Array.from(lamsAt(us, alpha)),
  minLamSq,
});
