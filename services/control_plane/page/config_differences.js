// @ts-check
// A table of the configuration fields in which runs differ.

import { el, row, table } from "./dom.js";

/** The most fields shown. */
const MOST = 60;

/** The table; `show` fills it. */
export function differences() {
  const element = el("section", { class: "differences", "aria-labelledby": "differences-title", hidden: true });
  const heading = el("h2", { id: "differences-title" }, "Differences in the configuration");
  return {
    element,
    /** @param {{id: string, config: Record<string, any>}[]} runs */
    show(runs) {
      element.hidden = runs.length < 2;
      const found = differing(runs.map(({ config }) => config));
      const { table: made, body } = table("Configuration fields in which the runs differ", ["Field", ...runs.map(({ id }) => id)], "stacking");
      body.append(...found.slice(0, MOST).map(([field, values]) => row(["Field", ...runs.map(({ id }) => id)], [field, ...values])));
      const more = found.length > MOST ? el("p", { class: "note" }, `and ${found.length - MOST} further fields`) : null;
      const same = el("p", { class: "note" }, "The configurations are the same.");
      element.replaceChildren(heading, found.length ? el("div", { class: "scrolling" }, made) : same, ...(more ? [more] : []));
    },
  };
}

/**
 * The fields in which configurations differ, dotted, each with its value in every configuration.
 * @param {Record<string, any>[]} configs
 * @returns {[string, string[]][]}
 */
export function differing(configs) {
  const flat = configs.map((config) => flattened(config));
  const fields = [...new Set(flat.flatMap((one) => [...one.keys()]))];
  return fields
    .map((field) => /** @type {[string, string[]]} */ ([field, flat.map((one) => one.get(field) ?? "–")]))
    .filter(([, values]) => new Set(values).size > 1);
}

/**
 * @param {Record<string, any>} block
 * @param {string} [prefix]
 * @param {Map<string, string>} [found]
 */
function flattened(block, prefix = "", found = new Map()) {
  for (const [name, value] of Object.entries(block)) {
    if (value && typeof value === "object" && !Array.isArray(value)) flattened(value, `${prefix}${name}.`, found);
    else found.set(prefix + name, typeof value === "string" ? value : JSON.stringify(value));
  }
  return found;
}
