// @ts-check
// Curves as CSV: every learner step, read from the control plane page by page, with the field names of the step record.

import { call, runPath } from "./api.js";
import { el } from "./dom.js";
import { backoff, isPassing, sleep } from "./poll.js";
import { MOST_ROWS } from "./series.js";

const ATTEMPTS = 6;

/** @typedef {{run: string, fields: string[], first: number, last: number}} Part the steps of one run */

/**
 * Lines of CSV for the steps of some runs, with a header.
 * @param {Part[]} parts
 * @param {AbortSignal} signal
 * @param {(share: number) => void} progress called with the share that is read
 */
export async function csvOf(parts, signal, progress) {
  const fields = [...new Set(parts.flatMap((part) => part.fields))].filter((field) => field !== "at");
  const lines = [row(["run", "step", "at", ...fields])];
  const all = parts.reduce((sum, { first, last }) => sum + Math.max(0, last - first + 1), 0);
  let done = 0;
  for (const { run, first, last } of parts) {
    for (let from = first; from <= last; from += MOST_ROWS) {
      const to = Math.min(last, from + MOST_ROWS - 1);
      // As many rows as steps: each row is one step, not a mean.
      const { steps, values } = await page(run, { fields: ["at", ...fields].join(","), first: String(from), last: String(to), rows: String(MOST_ROWS) }, signal);
      steps.forEach((step, i) => lines.push(row([run, step, ...["at", ...fields].map((field) => values[field][i])])));
      done += to - from + 1;
      progress(done / all);
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}

/**
 * Lines of CSV for evaluations.
 * @param {{run: string, evaluations: {step: number, pass_at_k: Record<string, number>}[]}[]} parts
 */
export function evaluationsCsv(parts) {
  const ks = [...new Set(parts.flatMap(({ evaluations }) => evaluations.flatMap((one) => Object.keys(one.pass_at_k))))].sort((a, b) => Number(a) - Number(b));
  const lines = parts.flatMap(({ run, evaluations }) => evaluations.map((one) => row([run, one.step, ...ks.map((k) => one.pass_at_k[k] ?? null)])));
  return `${[row(["run", "step", ...ks.map((k) => `pass@${k}`)]), ...lines].join("\r\n")}\r\n`;
}

/**
 * A button that downloads a text, and shows how far it is; a second click cancels.
 * @param {string} label
 * @param {(signal: AbortSignal, progress: (share: number) => void) => Promise<{name: string, text: string}>} make
 * @param {(error: Error) => void} onError
 */
export function downloadButton(label, make, onError) {
  /** @type {AbortController | null} */
  let running = null;
  const button = el("button", { type: "button", class: "csv", "aria-label": label, title: label, click: () => start() }, "CSV");
  async function start() {
    if (running) {
      running.abort();
      return;
    }
    running = new AbortController();
    const { signal } = running;
    try {
      const { name, text } = await make(signal, (share) => (button.textContent = `${Math.floor(100 * share)} %`));
      save(name, text);
    } catch (error) {
      if (!signal.aborted) onError(/** @type {Error} */ (error));
    } finally {
      running = null;
      button.textContent = "CSV";
    }
  }
  return button;
}

/**
 * A file name for the steps of some runs.
 * @param {string[]} runs
 * @param {string} what
 */
export function fileName(runs, what) {
  const names = runs.length > 3 ? [...runs.slice(0, 3), `and-${runs.length - 3}-more`] : runs;
  return `${names.join("_")}-${what.toLowerCase().replace(/[^a-z0-9@]+/g, "-").replace(/^-|-$/g, "")}.csv`;
}

/**
 * @param {string} name
 * @param {string} text
 */
function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/**
 * @param {string} run
 * @param {Record<string, string>} query
 * @param {AbortSignal} signal
 * @returns {Promise<{steps: number[], values: Record<string, (number | null)[]>}>}
 */
async function page(run, query, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return (await call(runPath(run, `/metrics?${new URLSearchParams(query)}`), { signal })).body;
    } catch (error) {
      if (attempt === ATTEMPTS || signal.aborted || !isPassing(error)) throw error;
      await sleep(/** @type {any} */ (error).retryAfter ?? backoff(attempt), signal);
    }
  }
}

/** @param {(string | number | null)[]} cells */
function row(cells) {
  return cells.map((cell) => (cell === null ? "" : String(cell))).join(",");
}
