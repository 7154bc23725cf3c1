// Three pictures on canvas: couplings, vicinal points, and the distribution of one point's partners.

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour of a mixed label: from one class's through that of an even mixture to the other's. */
function blend(own, other, lam, { colours, mixed }) {
  if (own === other) return colours[own];
  const near = channels(colours[lam >= 0.5 ? own : other]), weight = Math.abs(2 * lam - 1);
  const middle = channels(mixed);
  return `rgb(${near.map((channel, i) => Math.round(weight * channel + (1 - weight) * middle[i])).join()})`;
}

/** A circle, a triangle or a square, told apart without colour; to be filled by the caller. */
function mark(context, kind, x, y, radius) {
  if (kind === 0) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  } else if (kind === 1) {
    context.moveTo(x, y - 1.25 * radius);
    context.lineTo(x + 1.1 * radius, y + 0.8 * radius);
    context.lineTo(x - 1.1 * radius, y + 0.8 * radius);
    context.closePath();
  } else context.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
}

function fillMark(context, kind, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  mark(context, kind, x, y, radius);
  context.fill();
}

function star(context, x, y, radius) {
  context.beginPath();
  for (let i = 0; i < 10; i++) {
    const angle = (Math.PI * i) / 5 - Math.PI / 2, r = i % 2 ? 0.42 * radius : radius;
    context.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  context.closePath();
  context.fill();
  context.stroke();
}

/** A square view of the data, in pixels of a square canvas; back from pixels with `invert`. */
function viewOf(points, side) {
  let low = [-1, -1], high = [1, 1];
  if (points.length >= 4) {
    [low, high] = [[Infinity, Infinity], [-Infinity, -Infinity]];
    points.forEach((value, at) => {
      low[at % 2] = Math.min(low[at % 2], value);
      high[at % 2] = Math.max(high[at % 2], value);
    });
  }
  const half = Math.max(high[0] - low[0], high[1] - low[1], 1e-9) * 0.54;
  const left = (low[0] + high[0]) / 2 - half, top = (low[1] + high[1]) / 2 + half, scale = side / (2 * half);
  return {
    x: (value) => (value - left) * scale,
    y: (value) => (top - value) * scale,
    invert: (x, y) => [left + x / scale, top - y / scale],
  };
}

/** Fits the canvas to its place on the page, and clears it. */
function prepare(canvas) {
  const side = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(side * ratio)) canvas.width = canvas.height = Math.round(side * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, side, side);
  return { context, side };
}

function drawPoints(context, view, { points, classes }, radius, colourOf) {
  classes.forEach((own, i) => fillMark(context, own, view.x(points[2 * i]), view.y(points[2 * i + 1]), radius, colourOf(own)));
}

function drawCouplings(canvas, view, data, palette) {
  const { context } = prepare(canvas), { points, classes, partner } = data;
  const kinds = [...palette.colours, palette.across].map((colour) => [colour, new Path2D()]);
  partner.forEach((p, i) => {
    const path = kinds[classes[i] === classes[p] ? classes[i] : kinds.length - 1][1];
    path.moveTo(view.x(points[2 * i]), view.y(points[2 * i + 1]));
    path.lineTo(view.x(points[2 * p]), view.y(points[2 * p + 1]));
  });
  context.lineWidth = 0.8;
  context.globalAlpha = 0.7;
  for (const [colour, path] of kinds) {
    context.strokeStyle = colour;
    context.stroke(path);
  }
  context.globalAlpha = 1;
  drawPoints(context, view, data, 2.6, (own) => palette.colours[own]);
  if (data.picked >= 0) drawStar(context, view, data, palette);
  if (data.cross) {
    const [x, y] = data.cross;
    context.strokeStyle = palette.ink;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      for (const sign of [-1, 1]) {
        context.moveTo(x + 4 * sign * dx, y + 4 * sign * dy);
        context.lineTo(x + 13 * sign * dx, y + 13 * sign * dy);
      }
    }
    context.stroke();
  }
}

function drawVicinal(canvas, view, { points, classes, partner, lam }, palette) {
  const { context } = prepare(canvas);
  partner.forEach((p, i) => {
    const [x, y] = [0, 1].map((at) => lam[i] * points[2 * i + at] + (1 - lam[i]) * points[2 * p + at]);
    const shape = classes[lam[i] >= 0.5 ? i : p];
    fillMark(context, shape, view.x(x), view.y(y), 2.6, blend(classes[i], classes[p], lam[i], palette));
  });
}

function drawStar(context, view, { points, picked }, palette) {
  context.fillStyle = palette.picked;
  context.strokeStyle = palette.paper;
  context.lineWidth = 1.2;
  star(context, view.x(points[2 * picked]), view.y(points[2 * picked + 1]), 9);
}

/** Area grows with how often a point was the partner; grey was never one. */
function drawDistribution(canvas, view, data, palette) {
  const { context } = prepare(canvas), { points, classes, counts } = data;
  drawPoints(context, view, data, 1.7, () => palette.faint);
  if (data.picked < 0) return;
  const most = counts.reduce((a, b) => Math.max(a, b), 1);
  counts.forEach((count, i) => {
    if (!count) return;
    const radius = 2 + 6 * Math.sqrt(count / most);
    fillMark(context, classes[i], view.x(points[2 * i]), view.y(points[2 * i + 1]), radius, palette.colours[classes[i]]);
  });
  drawStar(context, view, data, palette);
}
