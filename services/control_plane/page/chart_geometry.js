// @ts-check
// Axes and SVG paths from numbers.

/** @typedef {(number | null)[]} Column */
/** @typedef {(value: number) => number} Scale */

/**
 * About `wanted` round values that divide a range; with `widen` the range extends to the outer ones.
 * @param {number} low
 * @param {number} high
 * @param {number} wanted
 * @param {boolean} widen
 */
export function axis(low, high, wanted, widen) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = /** @type {number} */ ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999)) * power;
  const from = widen ? Math.floor(low / unit + 1e-6) : Math.ceil(low / unit - 1e-6);
  const to = widen ? Math.ceil(high / unit - 1e-6) : Math.floor(high / unit + 1e-6);
  const ticks = [];
  for (let i = from; i <= to; i += 1) ticks.push(i * unit + 0); // + 0: no minus zero
  const digits = Math.max(0, -Math.floor(Math.log10(unit) + 1e-9) + (/[.]5/.test(String(unit / power)) ? 1 : 0));
  return { ticks, low: widen ? from * unit : low, high: widen ? Math.max(to, from + 1) * unit : high, digits };
}

/**
 * A range that an axis can divide: one of equal values (up to rounding) is widened.
 * @param {[number, number]} range
 * @returns {[number, number]}
 */
export function roomy([low, high]) {
  if (high - low > 1e-6 * Math.max(Math.abs(low), Math.abs(high))) return [low, high];
  const margin = Math.abs(high) * 0.1 || 1;
  return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
}

/**
 * A linear map.
 * @param {number} low
 * @param {number} high
 * @param {number} from
 * @param {number} to
 * @returns {Scale}
 */
export function scale(low, high, from, to) {
  const factor = (to - from) / (high - low || 1);
  return (value) => from + (value - low) * factor;
}

/**
 * The smallest and the largest number in some columns; null without any.
 * @param {Column[]} columns
 * @returns {[number, number] | null}
 */
export function extent(columns) {
  let low = Infinity;
  let high = -Infinity;
  for (const column of columns) {
    for (const value of column) {
      if (value === null) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low > high ? null : [low, high];
}

/**
 * A line through the points with gaps where a value is missing; a point between two gaps is a dot.
 * @param {number[]} steps
 * @param {Column} values
 * @param {Scale} x
 * @param {Scale} y
 * @param {boolean} [stepped] hold each value until the next point
 */
export function linePath(steps, values, x, y, stepped = false) {
  let path = "";
  let open = false;
  for (let i = 0; i < steps.length; i += 1) {
    const value = values[i];
    if (value === null || value === undefined) {
      open = false;
      continue;
    }
    const [left, top] = [round(x(steps[i])), round(y(value))];
    if (!open) path += `M${left} ${top}h0`;
    else path += stepped ? `H${left}V${top}` : `L${left} ${top}`;
    open = true;
  }
  return path;
}

/**
 * The area between two columns, with gaps where a value is missing in either.
 * @param {number[]} xs
 * @param {Column} low
 * @param {Column} high
 * @param {Scale} x
 * @param {Scale} y
 */
export function rangePath(xs, low, high, x, y) {
  let path = "";
  /** @type {string[]} */
  let there = [];
  /** @type {string[]} */
  let back = [];
  const close = () => {
    if (there.length > 1) path += `M${there.join("L")}L${back.reverse().join("L")}Z`;
    [there, back] = [[], []];
  };
  for (let i = 0; i < xs.length; i += 1) {
    const [bottom, top] = [low[i] ?? null, high[i] ?? null];
    if (bottom === null || top === null) close();
    else {
      const left = round(x(xs[i]));
      there.push(`${left} ${round(y(top))}`);
      back.push(`${left} ${round(y(bottom))}`);
    }
  }
  close();
  return path;
}

/**
 * Indices of the points inside a range, with one neighbour on each side: `[first, end]`.
 * @param {number[]} xs ascending
 * @param {[number, number]} range
 * @returns {[number, number]}
 */
export function within(xs, [from, to]) {
  const inside = xs.findIndex((x) => x >= from);
  const after = xs.findIndex((x) => x > to);
  return [Math.max(0, (inside < 0 ? xs.length : inside) - 1), after < 0 ? xs.length : after + 1];
}

/**
 * The area between two lines; a missing value counts as 0.
 * @param {number[]} steps
 * @param {Column} lower
 * @param {Column} upper
 * @param {Scale} x
 * @param {Scale} y
 */
export function areaPath(steps, lower, upper, x, y) {
  if (steps.length === 0) return "";
  const point = (/** @type {number} */ i, /** @type {Column} */ values) => `${round(x(steps[i]))} ${round(y(values[i] ?? 0))}`;
  const there = steps.map((_, i) => point(i, upper));
  const back = steps.map((_, i) => point(steps.length - 1 - i, lower));
  return `M${there.join("L")}L${back.join("L")}Z`;
}

/**
 * Stack the columns: the lower and upper edge of each.
 * @param {Column[]} columns
 */
export function stack(columns) {
  /** @type {{lower: number[], upper: number[]}[]} */
  const edges = [];
  let lower = columns.length ? columns[0].map(() => 0) : [];
  for (const column of columns) {
    const below = lower;
    const upper = column.map((value, i) => below[i] + (value ?? 0));
    edges.push({ lower: below, upper });
    lower = upper;
  }
  return edges;
}

/**
 * The ranges of steps with a value above zero, each from the previous point.
 * @param {number[]} steps
 * @param {Column} values
 * @returns {[number, number][]}
 */
export function ranges(steps, values) {
  /** @type {[number, number][]} */
  const found = [];
  for (let i = 0; i < steps.length; i += 1) {
    if (!values[i]) continue;
    const from = i > 0 ? steps[i - 1] : steps[i];
    const last = found.at(-1);
    if (last && last[1] >= from) last[1] = steps[i];
    else found.push([from, steps[i]]);
  }
  return found;
}

/**
 * Index of the point nearest to a step; -1 without points. `steps` is ascending.
 * @param {number[]} steps
 * @param {number} step
 */
export function nearest(steps, step) {
  let low = 0;
  let high = steps.length - 1;
  if (high < 0) return -1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle;
    else high = middle;
  }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
}

/**
 * The value of a column at a place between two points; null beyond the ends, and beside a missing value.
 * @param {number} place
 * @param {number[]} places ascending
 * @param {Column} values
 */
export function interpolated(place, places, values) {
  const near = nearest(places, place);
  if (near < 0) return null;
  if (places[near] === place) return values[near] ?? null;
  const [a, b] = places[near] < place ? [near, near + 1] : [near - 1, near];
  const [from, to] = [values[a] ?? null, values[b] ?? null];
  return from === null || to === null ? null : from + ((place - places[a]) / (places[b] - places[a])) * (to - from);
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
