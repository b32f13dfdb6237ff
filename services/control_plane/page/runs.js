// @ts-check
// The list of runs that the token may read, updated regularly.

import { call } from "./api.js";
import { notify } from "./dialog.js";
import { el, row, say, set, table } from "./dom.js";
import { age, brief, count, when } from "./format.js";
import { phaseText } from "./header.js";
import { poll } from "./poll.js";

const REFRESH_SECONDS = 5;
const PAGE = 500;
const HEADINGS = ["Run", "Phase", "Progress", "Steps", "Started", "Heartbeat"];
const ENDED = ["finished", "failed"];

/** The view of the list. */
export function runsView() {
  const stop = new AbortController();
  const { table: made, body } = table("Runs", HEADINGS, "runs stacking");
  const empty = el("p", { class: "empty", hidden: true });
  const damaged = el("p", { class: "failure", role: "status", hidden: true });
  const total = el("span", { class: "note" });
  const filter = el("input", { id: "filter", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "part of a name", input: () => show() });
  /** @type {Map<string, ReturnType<typeof line>>} */
  const lines = new Map();

  function show() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const [id, { element }] of lines) {
      element.hidden = !id.toLowerCase().includes(wanted);
      shown += element.hidden ? 0 : 1;
    }
    empty.hidden = shown > 0;
    say(empty, lines.size ? "No run matches." : "There are no runs that this token may read.");
    say(total, lines.size ? `${count(lines.size)} ${lines.size === 1 ? "run" : "runs"}` : "");
  }

  async function load() {
    const { runs, unreadable, at } = await every(stop.signal);
    damaged.hidden = unreadable.length === 0;
    say(damaged, `The stored data of these runs is damaged and cannot be shown: ${unreadable.join(", ")}.`);
    for (const run of runs) {
      const known = lines.get(run.id) ?? line(run);
      known.update(run, at);
      lines.set(run.id, known);
    }
    const ids = new Set(runs.map((run) => run.id));
    for (const id of lines.keys()) if (!ids.has(id)) lines.delete(id);
    const order = runs.sort(byInterest).map((run) => /** @type {any} */ (lines.get(run.id)).element);
    // Moving a row would take the focus from its link.
    if (order.some((element, i) => body.rows[i] !== element) || body.rows.length !== order.length) body.replaceChildren(...order);
    show();
  }

  poll("runs", load, REFRESH_SECONDS, stop.signal).then((error) => error && notify(error.message, "error"));
  const heading = el("h1", { tabindex: -1 }, "Runs");
  const tools = el("div", { class: "title-line" }, heading, total, el("div", { class: "field filter" }, el("label", { for: "filter" }, "Filter"), filter));
  return {
    element: el("div", { class: "view" }, tools, damaged, made, empty),
    title: "Runs",
    focus: () => heading.focus(),
    stop: () => stop.abort(),
  };
}

/**
 * All pages of the list.
 * @param {AbortSignal} signal
 * @returns {Promise<{runs: any[], unreadable: string[], at: number}>}
 */
async function every(signal) {
  /** @type {any[]} */
  const runs = [];
  /** @type {string[]} */
  const unreadable = [];
  let [cursor, at] = ["", Date.now()];
  do {
    const answer = await call(`/v1/runs?limit=${PAGE}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, { signal });
    runs.push(...answer.body.runs);
    unreadable.push(...answer.body.unreadable);
    cursor = answer.body.next ?? "";
    at = answer.at;
  } while (cursor);
  return { runs, unreadable, at };
}

/**
 * Active runs first, then the newest.
 * @param {any} a
 * @param {any} b
 */
function byInterest(a, b) {
  const ended = Number(ENDED.includes(a.phase)) - Number(ENDED.includes(b.phase));
  return ended || Date.parse(b.started_at) - Date.parse(a.started_at) || a.id.localeCompare(b.id);
}

/** @param {any} run */
function line(run) {
  const phase = el("span", { class: "phase" });
  const bar = el("progress", { "aria-label": `Steps of ${run.id} done`, max: 1, value: 0 });
  const steps = el("span");
  const started = el("time");
  const heartbeat = el("span");
  const link = el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.id);
  const element = row(HEADINGS, [link, phase, bar, steps, started, heartbeat]);
  return {
    element,
    /**
     * @param {any} now
     * @param {number} at the server's clock, milliseconds
     */
    update(now, at) {
      say(phase, phaseText(now.phase));
      phase.dataset.phase = now.phase;
      bar.max = Math.max(1, now.of);
      bar.value = now.step;
      say(steps, `${count(now.step)} / ${count(now.of)}`);
      set(started, { datetime: now.started_at, title: when(now.started_at) });
      say(started, brief(now.started_at));
      say(heartbeat, age(Math.max(0, at - Date.parse(now.heartbeat_at)) / 1000));
    },
  };
}
