// @ts-check
// A chart in words, for those who do not see it.

import { extent } from "./chart_geometry.js";
import { short } from "./format.js";
import { placeText } from "./horizontal.js";

/**
 * The values of all lines at a place.
 * @param {import("./chart.js").Look} look
 * @param {import("./chart.js").Line[]} lines
 * @param {import("./chart.js").Data} data
 * @param {number} place
 * @param {(key: string) => number} index of a line's point at the place
 */
export function wordsAt({ format = short }, lines, { axis, curves }, place, index) {
  const parts = lines.map(({ key, label }) => `${label} ${format(curves[key]?.values[index(key)])}`);
  return `${placeText(axis, place)}: ${parts.join(", ")}`;
}

/**
 * Newest value and range of each line.
 * @param {import("./chart.js").Look} look
 * @param {import("./chart.js").Line[]} lines
 * @param {import("./chart.js").Data} data
 * @param {number[]} places of all points
 */
export function summary({ title, unit, format = short }, lines, { axis, curves }, places) {
  const head = `${title}${unit ? `, ${unit}` : ""}`;
  if (places.length === 0) return `${head}: no data yet`;
  const parts = lines.flatMap(({ key, label }) => {
    const column = curves[key]?.values ?? [];
    const range = extent([column]);
    return range ? [`${label} ${format(column.at(-1))}, between ${format(range[0])} and ${format(range[1])}`] : [];
  });
  const [from, to] = [places[0], places[places.length - 1]].map((place) => placeText(axis, place));
  return `${head}, ${axis === "step" ? `steps ${from.slice(5)} to ${to.slice(5)}` : `${from} to ${to}`}: ${parts.join("; ")}`;
}
