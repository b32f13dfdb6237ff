// @ts-check
// A small “?” with an explanation that opens by click, touch or key, and closes by Escape or a click elsewhere.

import { el, set } from "./dom.js";

/** Least distance of a text from the edges of the screen, CSS pixels. */
const MARGIN = 8;
let made = 0;

/**
 * @param {string} label what the explanation is about
 * @param {string} text
 */
export function hint(label, text) {
  made += 1;
  const id = `hint-${made}`;
  const note = el("span", { id, class: "hint-text", role: "note", hidden: true }, text);
  const show = (/** @type {boolean} */ open) => {
    note.hidden = !open;
    set(button, { "aria-expanded": String(open) });
    if (!open) return;
    note.style.translate = "";
    const { left, right } = note.getBoundingClientRect();
    const beyond = Math.max(0, right + MARGIN - document.documentElement.clientWidth);
    note.style.translate = `${Math.max(-beyond, MARGIN - left)}px 0`;
  };
  const button = el(
    "button",
    {
      type: "button",
      class: "hint-button",
      "aria-label": label,
      "aria-expanded": "false",
      "aria-controls": id,
      title: text,
      click: () => show(note.hidden),
      blur: () => show(false),
      keydown: (event) => {
        if (event.key !== "Escape" || note.hidden) return;
        event.stopPropagation();
        show(false);
      },
    },
    "?",
  );
  return el("span", { class: "hint" }, button, note);
}
