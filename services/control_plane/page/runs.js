// @ts-check
// The list of runs that the token may read, updated regularly; runs can be chosen to be compared.

import { MOST_COMPARED, compareAddress } from "./address.js";
import { call } from "./api.js";
import { sawRecorded } from "./connection.js";
import { notify } from "./dialog.js";
import { el, say, table } from "./dom.js";
import { count } from "./format.js";
import { poll } from "./poll.js";
import { HEADINGS, runRow } from "./run_row.js";

const REFRESH_SECONDS = 5;
const PAGE = 500;

/** @type {Record<string, [string, (a: any, b: any) => number]>} */
const ORDERS = {
  newest: ["newest first", (a, b) => Date.parse(b.started_at) - Date.parse(a.started_at)],
  name: ["by name", () => 0],
  reward: ["highest reward first", (a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity)],
  entropy: ["highest entropy first", (a, b) => (b.entropy ?? -Infinity) - (a.entropy ?? -Infinity)],
};

/** The view of the list. */
export function runsView() {
  const view = new RunsView();
  view.begin();
  return view;
}

class RunsView {
  title = "Runs";
  #stop = new AbortController();
  /** @type {any[]} */
  #runs = [];
  /** @type {Map<string, ReturnType<typeof runRow>>} */
  #rows = new Map();

  constructor() {
    const { table: made, body } = table("Runs", HEADINGS, "runs stacking");
    this.body = body;
    this.table = made;
    this.heading = el("h1", { tabindex: -1 }, "Runs");
    this.empty = el("p", { class: "empty" }, "Reading the runs…");
    this.damaged = el("p", { class: "failure", role: "status", hidden: true });
    this.total = el("span", { class: "note" });
    this.compare = el("button", { type: "button", disabled: true, click: () => this.#compareChosen() }, "Compare");
    this.filter = el("input", { id: "filter", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "part of a name or phase", input: () => this.#show() });
    this.order = el("select", { id: "order", change: () => this.#show() }, ...Object.entries(ORDERS).map(([value, [text]]) => el("option", { value }, text)));
    this.tools = el("div", { class: "run-tools", role: "group", "aria-label": "Choose and order", hidden: true }, field("Filter", this.filter), field("Order", this.order), this.compare);
    this.table.hidden = true;
    this.element = el("div", { class: "view" }, el("div", { class: "title-line" }, this.heading, this.total, this.tools), this.damaged, this.table, this.empty);
  }

  /** Read the list and keep it up to date until `stop`. */
  begin() {
    poll("runs", () => this.#load(), REFRESH_SECONDS, this.#stop.signal).then((error) => error && notify(error.message, "error"));
  }

  /** Stop reading. */
  stop() {
    this.#stop.abort();
  }

  /** Focus the heading. */
  focus() {
    this.heading.focus();
  }

  async #load() {
    const { runs, unreadable, at } = await every(this.#stop.signal);
    this.damaged.hidden = unreadable.length === 0;
    say(this.damaged, `The stored data of these runs is damaged and cannot be shown: ${unreadable.join(", ")}.`);
    this.#runs = runs;
    sawRecorded(runs.length > 0 && runs.every((run) => run.recorded_at));
    for (const run of runs) {
      const known = this.#rows.get(run.id) ?? runRow(run, () => this.#offer());
      known.update(run, at);
      this.#rows.set(run.id, known);
    }
    const ids = new Set(runs.map((run) => run.id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    this.#show();
  }

  #show() {
    const wanted = this.filter.value.trim().toLowerCase();
    let shown = 0;
    const ordered = this.#runs.toSorted(ORDERS[this.order.value][1]).map((run) => {
      const { element } = /** @type {ReturnType<typeof runRow>} */ (this.#rows.get(run.id));
      element.hidden = !`${run.id} ${element.dataset.phase}`.toLowerCase().includes(wanted);
      shown += element.hidden ? 0 : 1;
      return element;
    });
    // Moving a row would take the focus from its link.
    if (ordered.some((element, i) => this.body.rows[i] !== element) || this.body.rows.length !== ordered.length) this.body.replaceChildren(...ordered);
    this.table.hidden = shown === 0;
    this.tools.hidden = this.#runs.length === 0;
    this.empty.hidden = shown > 0;
    say(this.empty, this.#runs.length ? "No run matches." : "There are no runs that this token may read. scope train starts one.");
    say(this.total, this.#runs.length ? `${count(this.#runs.length)} ${this.#runs.length === 1 ? "run" : "runs"}` : "");
    this.#offer();
  }

  get #chosen() {
    return [...this.#rows].filter(([, { check }]) => check.checked).map(([id]) => id);
  }

  #offer() {
    const number = this.#chosen.length;
    this.compare.disabled = number < 2 || number > MOST_COMPARED;
    const most = number > MOST_COMPARED ? `, at most ${MOST_COMPARED}` : "";
    say(this.compare, number < 2 ? "Compare: choose two runs" : `Compare ${number} runs${most}`);
  }

  #compareChosen() {
    location.hash = compareAddress(this.#chosen);
  }
}

/**
 * @param {string} label
 * @param {HTMLElement} input
 */
function field(label, input) {
  return el("div", { class: "field filter" }, el("label", { for: input.id }, label), input);
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
