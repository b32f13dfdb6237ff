// @ts-check
// The buttons of a run: pause, resume, checkpoint, stop.

import { call, runPath } from "./api.js";
import { confirmed, notify } from "./dialog.js";
import { el, say } from "./dom.js";

const ENDED = ["finished", "failed"];

/**
 * @typedef {object} Deed
 * @property {string} name
 * @property {string} label
 * @property {string} yes
 * @property {string} what what it does, for the dialog
 * @property {string} done
 * @property {boolean} [grave]
 * @property {(phase: string, control: string) => boolean} possible
 */

/** @type {Deed[]} */
const DEEDS = [
  {
    name: "pause",
    label: "Pause",
    yes: "Pause the run",
    what: "The learner holds at the next step boundary. Generators finish their groups and idle with warm engines.",
    done: "Pause asked for. It takes effect at the next step boundary.",
    possible: (phase, control) => !ENDED.includes(phase) && control === "run",
  },
  {
    name: "resume",
    label: "Resume",
    yes: "Resume the run",
    what: "The learner and the generators go on where they are.",
    done: "The run goes on.",
    possible: (phase, control) => !ENDED.includes(phase) && control === "pause",
  },
  {
    name: "checkpoint",
    label: "Checkpoint",
    yes: "Write a checkpoint",
    what: "A checkpoint is written at the next step boundary, besides those of the configuration.",
    done: "Checkpoint asked for. It is written at the next step boundary.",
    possible: (phase, control) => !ENDED.includes(phase) && control !== "stop",
  },
  {
    name: "stop",
    label: "Stop",
    yes: "Stop the run",
    what: "The run ends after the current step, with a checkpoint and its report. To go on, it has to be resumed from the command line.",
    done: "Stop asked for. The run ends after the current step.",
    grave: true,
    possible: (phase, control) => !ENDED.includes(phase) && control !== "stop",
  },
];

/**
 * The buttons of a run.
 * @param {string} run
 * @param {(run: any) => void} onRun takes the run as it is afterwards
 */
export function actions(run, onRun) {
  const buttons = DEEDS.map((deed) =>
    el("button", { type: "button", class: deed.grave ? "grave" : "", disabled: true, click: () => ask(deed) }, `${deed.label}…`),
  );

  const note = el("p", { id: "actions-note", class: "note", hidden: true });
  let reason = "";

  async function ask(/** @type {Deed} */ deed) {
    const title = `${deed.label} ${run}?`;
    if (!(await confirmed({ title, body: [el("p", {}, deed.what)], yes: deed.yes, tone: deed.grave ? "grave" : "primary" }))) return;
    try {
      const { body } = await call(runPath(run, `:${deed.name}`), { method: "POST" });
      onRun(body);
      notify(deed.done);
    } catch (error) {
      notify(/** @type {Error} */ (error).message, "error");
    }
  }

  return {
    element: el("div", { class: "actions", role: "group", "aria-label": "What can be asked of the run", "aria-describedby": "actions-note" }, ...buttons, note),
    /**
     * Keep every button disabled and say why; an empty reason lets them be.
     * @param {string} why
     */
    forbid(why) {
      reason = why;
      note.hidden = !why;
      say(note, why);
    },
    /**
     * Enable what is possible.
     * @param {string} phase
     * @param {string} control
     */
    update(phase, control) {
      buttons.forEach((button, i) => {
        const possible = !reason && DEEDS[i].possible(phase, control);
        // A disabled button loses the focus, and the reader the place.
        if (!possible && document.activeElement === button) buttons.find((_, j) => DEEDS[j].possible(phase, control))?.focus();
        button.disabled = !possible;
      });
    },
  };
}
