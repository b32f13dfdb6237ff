// @ts-check
// Disclosures: every field of the newest step record, and the run's configuration and versions.

import { el } from "./dom.js";
import { short, when } from "./format.js";

/** The disclosures. Their contents are updated only while they are open. */
export function details() {
  const numbers = el("dl", { class: "fields" });
  const made = el("dl", { class: "fields" });
  const config = el("pre", { tabindex: 0, "aria-label": "Configuration" });
  /** @type {any} */
  let record = null;
  const show = () => newest.open && record && numbers.replaceChildren(...pairs(record));
  const newest = el("details", { hidden: true, toggle: () => show() }, el("summary", {}, "Newest step record"), numbers);
  return {
    element: el("section", { class: "details", "aria-label": "Details" }, newest, el("details", {}, el("summary", {}, "Configuration and versions"), made, config)),
    /** @param {any} run */
    configure(run) {
      const { started_at, config_hash, versions } = run.metadata;
      made.replaceChildren(...pairs({ started: when(started_at), "configuration hash": config_hash, ...versions }));
      config.textContent = JSON.stringify(run.spec.config, null, 2);
    },
    /** @param {any} given the newest record */
    update(given) {
      if (given === record) return;
      record = given;
      newest.hidden = !record;
      show();
    },
  };
}

/** @param {Record<string, any>} fields */
function pairs(fields) {
  return Object.entries(fields).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, text(value))));
}

/**
 * @param {any} value
 * @returns {string}
 */
function text(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : short(value);
  if (Array.isArray(value)) return value.length ? value.join("; ") : "–";
  if (value && typeof value === "object") return Object.entries(value).map(([key, one]) => `${key} ${text(one)}`).join(", ") || "–";
  return value === null ? "–" : String(value);
}
