// The assignment that costs least: shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987) with duals that
// start tight. tests/test_browser_playground.py compares it with kmixup.assign.

/**
 * @param {Float64Array} cost Row by row, k * k finite entries.
 * @param {number} k Rows, and columns.
 * @returns {Int32Array} sigma: row i goes with column sigma[i]. Ties break arbitrarily.
 */
function assign(cost, k) {
  if (cost.length !== k * k) throw new Error(`cost must have ${k} * ${k} entries, got ${cost.length}.`);
  for (const entry of cost) if (!Number.isFinite(entry)) throw new Error("cost must be finite.");
  const u = new Float64Array(k), v = new Float64Array(k).fill(Infinity);
  const sigma = new Int32Array(k).fill(-1), rowOf = new Int32Array(k).fill(-1);

  // Columns' minima, then what is left of the rows' minima: every cost is at least u + v, and each row has a tight one.
  for (let i = 0, at = 0; i < k; i++) for (let j = 0; j < k; j++, at++) if (cost[at] < v[j]) v[j] = cost[at];
  for (let i = 0; i < k; i++) {
    let least = Infinity, where = 0;
    for (let j = 0, at = i * k; j < k; j++, at++) {
      const reduced = cost[at] - v[j];
      if (reduced < least || (reduced === least && rowOf[where] >= 0 && rowOf[j] < 0)) {
        least = reduced;
        where = j;
      }
    }
    u[i] = least;
    if (rowOf[where] < 0) {
      rowOf[where] = i;
      sigma[i] = where;
    }
  }

  const distance = new Float64Array(k), before = new Int32Array(k), open = new Int32Array(k);
  for (let free = 0; free < k; free++) {
    if (sigma[free] >= 0) continue;
    // Dijkstra over columns, from the free row to the nearest free column; open[0 .. left) are not reached yet.
    distance.fill(Infinity);
    for (let j = 0; j < k; j++) open[j] = j;
    let row = free, reached = 0, end = -1, left = k;
    while (end < 0) {
      let least = Infinity, place = 0;
      const base = reached - u[row], at = row * k;
      for (let o = 0; o < left; o++) {
        const j = open[o], through = base + cost[at + j] - v[j];
        if (through < distance[j]) {
          distance[j] = through;
          before[j] = row;
        }
        if (distance[j] < least || (distance[j] === least && rowOf[j] < 0)) {
          least = distance[j];
          place = o;
        }
      }
      const column = open[place];
      reached = least;
      open[place] = open[--left];
      open[left] = column;
      if (rowOf[column] < 0) end = column;
      else row = rowOf[column];
    }
    // The duals of what was reached move, so that the path is tight and no cost falls below u + v.
    u[free] += reached;
    for (let o = left; o < k; o++) {
      const j = open[o], slack = reached - distance[j];
      v[j] -= slack;
      if (rowOf[j] >= 0) u[rowOf[j]] += slack;
    }
    for (let column = end, i = -1; i !== free; ) {
      i = before[column];
      const next = sigma[i];
      rowOf[column] = i;
      sigma[i] = column;
      column = next;
    }
  }
  return sigma;
}
