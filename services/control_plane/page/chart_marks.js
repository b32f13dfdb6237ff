// @ts-check
// What a chart draws around its curves: grid, limits, marks.

import { svg } from "./dom.js";
import { fixed, precise, si } from "./format.js";

/**
 * The part of a chart inside its axes, CSS pixels.
 * @typedef {object} Frame
 * @property {number} left
 * @property {number} right
 * @property {number} top
 * @property {number} bottom
 * @property {(place: number) => number} x
 * @property {(value: number) => number} y
 */

const LABEL_ROOM = 26;
/** A label nearer to the right edge is aligned to it. */
const EDGE_ROOM = 10;

/**
 * Rules and labels of the axes.
 * @param {Frame} frame
 * @param {{ticks: number[], digits: number}} vertical
 * @param {{place: number, text: string}[]} horizontal
 */
export function gridNodes({ left, right, bottom, x, y }, vertical, horizontal) {
  const rules = vertical.ticks.map((tick) => `M${left} ${sharp(y(tick))}H${right}`);
  return [
    svg("path", { class: "rule", d: rules.join("") }),
    ...vertical.ticks.map((tick) => svg("text", { x: left - 6, y: y(tick) + 3.5, class: "value" }, tickText(tick, vertical.digits))),
    ...horizontal.map(({ place, text }) => {
      const atEdge = x(place) > right - EDGE_ROOM;
      return svg("text", { x: atEdge ? right + EDGE_ROOM : x(place), y: bottom + 15, class: atEdge ? "step last" : "step" }, text);
    }),
  ];
}

/**
 * A dashed line for each limit, in the colour of the line that it bounds.
 * @param {Frame} frame
 * @param {import("./chart.js").Limit[]} limits
 * @param {import("./chart.js").Line[]} lines
 */
export function limitNodes({ left, right, top, y }, limits, lines) {
  return limits.map(({ value, label, of }) => {
    const tone = lines.find((line) => line.key === of)?.tone ?? "";
    const below = y(value) < top + 8;
    return svg(
      "g",
      { class: `limit ${tone}` },
      svg("path", { d: `M${left} ${sharp(y(value))}H${right}` }),
      svg("text", { x: right - 2, y: y(value) + (below ? 11 : -3) }, label),
    );
  });
}

/**
 * A vertical rule for each mark; labels that would overlap are left out, the older ones first.
 * @param {Frame} frame
 * @param {{place: number, label: string}[]} marks
 */
export function markNodes({ right, top, bottom, x }, marks) {
  const rules = marks.map(({ place }) => `M${sharp(x(place))} ${top - 3}V${bottom}`);
  let free = Infinity;
  const labels = [];
  for (const { place, label } of marks.toSorted((a, b) => b.place - a.place)) {
    const at = x(place);
    if (at > free) continue;
    free = at - LABEL_ROOM;
    labels.push(svg("text", { x: Math.min(at, right - 8), y: top - 5 }, label));
  }
  return [svg("path", { d: rules.join("") }), ...labels];
}

/**
 * @param {number} tick
 * @param {number} digits decimals that tell the ticks apart
 */
function tickText(tick, digits) {
  if (Math.abs(tick) >= 10000) return si(tick);
  return digits > 4 ? precise(tick) : fixed(tick, digits);
}

/**
 * The middle of a device pixel, where a thin line is sharp.
 * @param {number} position
 */
export function sharp(position) {
  return Math.floor(position) + 0.5;
}
