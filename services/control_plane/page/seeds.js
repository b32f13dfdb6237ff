// @ts-check
// Runs that differ only in their seed, as one line: the mean, with the range from the lowest to the highest.

import { interpolated } from "./chart_geometry.js";

/** @typedef {import("./chart.js").Curve} Curve */
/** @typedef {{key: string, label: string, tone: string, runs: import("./compared_run.js").ComparedRun[]}} RunLine */

/** Blocks and fields of the configuration that do not change what is learned. */
const INCIDENTAL = ["seed", "runs_dir", "redis", "control_plane", "ray", "loggers", "wandb"];

/**
 * The lines of a chart: one for each run, or one for all runs that differ only in their seed.
 * @param {import("./compared_run.js").ComparedRun[]} runs
 * @param {boolean} together
 * @returns {RunLine[]}
 */
export function linesOf(runs, together) {
  /** @type {Map<string, RunLine>} */
  const lines = new Map();
  for (const run of runs) {
    const alike = together && run.run ? learningText(run.run.spec.config) : run.id;
    const line = lines.get(alike) ?? { key: run.id, label: run.id, tone: run.colour, runs: [] };
    line.runs.push(run);
    line.label = line.runs.length > 1 ? `${line.key} and ${line.runs.length - 1} more` : line.key;
    lines.set(alike, line);
  }
  return [...lines.values()];
}

/**
 * The mean of some curves with their range, where all of them have points.
 * @param {Curve[]} curves
 * @param {boolean} ranged whether the range is wanted
 * @returns {Curve}
 */
export function meanOf(curves, ranged) {
  if (curves.length === 1) return curves[0];
  const first = Math.max(...curves.map(({ places }) => places[0] ?? Infinity));
  const last = Math.min(...curves.map(({ places }) => places.at(-1) ?? -Infinity));
  const finest = curves.reduce((a, b) => (b.places.length > a.places.length ? b : a));
  const places = finest.places.filter((place) => place >= first && place <= last);
  const rows = places.map((place) => curves.map(({ places: own, values, smooth }) => interpolated(place, own, smooth ?? values)).filter((value) => value !== null));
  const reduce = (/** @type {(row: number[]) => number} */ by) => rows.map((row) => (row.length ? by(row) : null));
  return {
    places,
    values: reduce((row) => row.reduce((sum, value) => sum + value, 0) / row.length),
    ...(ranged ? { low: reduce((row) => Math.min(...row)), high: reduce((row) => Math.max(...row)) } : {}),
  };
}

/** @param {Record<string, any>} config */
function learningText(config) {
  return JSON.stringify(Object.entries(config).filter(([name]) => !INCIDENTAL.includes(name)));
}
