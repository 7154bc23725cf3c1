// k-mixup on points of the plane: kmixup's words, and kmixup's definitions. All randomness comes in as a stream.

/** Uniform numbers in (0, 1) that a seed and a purpose decide: sfc32 (Doty-Humphrey, PractRand). */
function stream(seed, purpose) {
  let a = 0x9e3779b9, b = seed >>> 0, c = purpose >>> 0, counter = 1;
  const next = () => {
    const sum = (a + b + counter++) >>> 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) >>> 0;
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0;
    return (sum + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 20; i++) next();
  return next;
}

/** The first `size` places of `items` become a uniform subset in random order. */
function shuffle(items, uniform, size = items.length) {
  for (let i = 0; i < size; i++) {
    const j = i + Math.floor(uniform() * (items.length - i));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

const upTo = (n) => Int32Array.from({ length: n }, (_, i) => i);
const largestK = (n) => Math.max(1, n >> 1);

function sqDistance(points, i, j) {
  const dx = points[2 * i] - points[2 * j], dy = points[2 * i + 1] - points[2 * j + 1];
  return dx * dx + dy * dy;
}

/** Two sets of points matched at the least sum of squared distances: place i of `left` goes with place sigma[i] of `right`. */
function match(points, left, right) {
  const k = left.length, cost = new Float64Array(k * k);
  for (let i = 0, at = 0; i < k; i++) for (let j = 0; j < k; j++) cost[at++] = sqDistance(points, left[i], right[j]);
  return assign(cost, k);
}

/** The pairing "roll": every block of k of the order meets the block before it, the first the last. */
function partnersOf(points, order, k) {
  const n = order.length, partner = new Int32Array(n);
  for (let start = 0; start < n; start += k) {
    const left = order.subarray(start, Math.min(start + k, n));
    const right = left.map((_, i) => order[(start + i - k + n) % n]);
    match(points, left, right).forEach((j, i) => { partner[left[i]] = right[j]; });
  }
  return partner;
}

/** Twice the total variance: the mean squared distance of two independent draws. */
function meanSqDistance(points) {
  const n = points.length / 2;
  let mx = 0, my = 0, sum = 0;
  for (let i = 0; i < n; i++) [mx, my] = [mx + points[2 * i] / n, my + points[2 * i + 1] / n];
  for (let i = 0; i < n; i++) sum += (points[2 * i] - mx) ** 2 + (points[2 * i + 1] - my) ** 2;
  return (2 * sum) / n;
}

/** Share of midpoints of pairs whose nearest other point has neither class of the pair; null for fewer than 3 points. */
function intrusion(points, classes, partner) {
  const n = partner.length;
  if (n < 3) return null;
  let found = 0;
  for (let i = 0; i < n; i++) {
    const p = partner[i], x = (points[2 * i] + points[2 * p]) / 2, y = (points[2 * i + 1] + points[2 * p + 1]) / 2;
    let least = Infinity, nearest = 0;
    for (let j = 0; j < n; j++) {
      const dx = points[2 * j] - x, dy = points[2 * j + 1] - y, square = dx * dx + dy * dy;
      if (square < least && j !== i && j !== p) [least, nearest] = [square, j];
    }
    if (classes[nearest] !== classes[i] && classes[nearest] !== classes[p]) found++;
  }
  return found / n;
}

function sameClass(classes, partner) {
  let same = 0;
  partner.forEach((p, i) => { same += classes[i] === classes[p]; });
  return same / partner.length;
}

function matchedSqDistance(points, partner) {
  let sum = 0;
  partner.forEach((p, i) => { sum += sqDistance(points, i, p); });
  return sum / partner.length;
}

// --- lam --------------------------------------------------------------------------------------------------------------

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

function logGamma(x) {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const t = x + 6.5;
  const sum = LANCZOS.reduce((total, c, i) => (i ? total + c / (x - 1 + i) : c), 0);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

const logBeta = (a, b) => logGamma(a) + logGamma(b) - logGamma(a + b);

/** log of the regularised incomplete beta function at x <= (a + 1) / (a + b + 2), by Lentz's continued fraction. */
function logBetaCdf(logX, logY, a, b, scale) {
  const x = Math.exp(logX), tiny = 1e-300;
  let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1) || tiny), product = d;
  const turn = (step) => {
    d = 1 / (1 + step * d || tiny);
    c = 1 + step / c || tiny;
    product *= c * d;
  };
  for (let m = 1; m < 300 && (m === 1 || Math.abs(c * d - 1) > 1e-13); m++) {
    turn((m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)));
    turn((-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)));
  }
  return a * logX + b * logY - Math.log(a) - scale + Math.log(product);
}

/**
 * Quantiles of Beta(alpha, alpha): lam moves smoothly as alpha does. alpha = 0 gives 1 (no mixing), Infinity 1/2.
 * Newton on the log of the distribution function over log-odds t, which is concave: from the left it never overshoots,
 * so that each quantile starts where the one before it ended.
 */
function lamsAt(us, alpha) {
  if (alpha === 0 || alpha === Infinity) return new Float64Array(us.length).fill(alpha ? 0.5 : 1);
  const lam = new Float64Array(us.length), scale = logBeta(alpha, alpha), tail = (i) => Math.min(us[i], 1 - us[i]);
  let t = -Infinity;
  for (const i of upTo(us.length).sort((i, j) => tail(i) - tail(j))) {
    const goal = Math.log(tail(i));
    t = Math.max(t, (goal + Math.log(alpha) + scale) / alpha);
    for (let turn = 0, step = 1; turn < 100 && Math.abs(step) > 1e-12 * Math.max(1, Math.abs(t)); turn++) {
      const logY = -Math.log1p(Math.exp(t)), logX = t + logY, value = logBetaCdf(logX, logY, alpha, alpha, scale);
      step = (goal - value) / Math.exp(alpha * (logX + logY) - scale - value);
      t = Math.min(t + step, 0);
    }
    lam[i] = 1 / (1 + Math.exp(us[i] > 0.5 ? t : -t));
  }
  return lam;
}

/** E[min(lam, 1 - lam)^2] for Beta(alpha, alpha). */
function minLamSq(alpha) {
  if (alpha === 0) return 0;
  if (alpha === Infinity) return 0.25;
  const half = Math.log(0.5), scale = logBeta(alpha + 2, alpha);
  return 2 * Math.exp(scale - logBeta(alpha, alpha) + logBetaCdf(half, half, alpha + 2, alpha, scale));
}

// --- many draws -------------------------------------------------------------------------------------------------------

/** One draw from the locally-informed distribution D_i: a k-subset that holds i meets an independent k-subset. */
function localPartner(points, k, i, uniform, scratch = upTo(points.length / 2)) {
  const n = scratch.length;
  const at = scratch.indexOf(i);
  [scratch[at], scratch[n - 1]] = [scratch[n - 1], i];
  shuffle(scratch.subarray(0, n - 1), uniform, k - 1);
  const gamma = Int32Array.of(i, ...scratch.subarray(0, k - 1));
  const zeta = shuffle(scratch, uniform, k).slice(0, k);
  return zeta[match(points, gamma, zeta)[0]];
}

/** Mean and standard error. */
function estimate(values) {
  const n = values.length, mean = values.reduce((sum, value) => sum + value, 0) / n;
  const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, stdError: n > 1 ? Math.sqrt(square / (n - 1) / n) : NaN };
}
