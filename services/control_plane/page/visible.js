// @ts-check
// Text of a model, a verifier or a person with its invisible characters shown: control characters, and characters that
// change the direction of the text or take no place.

import { el } from "./dom.js";

/** Every character that has no picture of its own. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{Cn}]/u;
/** Characters that lay out text. */
const KEPT = new Set(["\n", "\t"]);
/**
 * The text as nodes: hidden characters become marked ones that name the character.
 * @param {string} text
 * @returns {Node[]}
 */
export function visible(text) {
  /** @type {Node[]} */
  const nodes = [];
  let plain = "";
  const flush = () => {
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
  };
  for (const character of text) {
    if (KEPT.has(character) || !HIDDEN.test(character)) plain += character;
    else {
      flush();
      nodes.push(mark(character));
    }
  }
  flush();
  return nodes;
}

/** @param {string} character */
function mark(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  return el("span", { class: "hidden-character" }, `U+${code.toString(16).toUpperCase().padStart(4, "0")}`);
}
