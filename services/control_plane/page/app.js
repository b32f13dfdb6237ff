// @ts-check
// The page: sign-in, and the view that the address names.

import { addressOf } from "./address.js";
import { onRefusedToken, session } from "./api.js";
import { compareView } from "./compare.js";
import { notify } from "./dialog.js";
import { el } from "./dom.js";
import { isReplaced, silence } from "./connection.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";
import { signIn, tokenFromFragment } from "./signin.js";

/** @typedef {{element: HTMLElement, title: string, focus: () => void, stop: () => void}} View */

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const trail = /** @type {HTMLElement} */ (document.getElementById("trail"));
const signOut = /** @type {HTMLElement} */ (document.getElementById("sign-out"));
const skip = /** @type {HTMLElement} */ (document.getElementById("skip"));

/** @type {View | null} */
let view = null;

/**
 * Show the view that the address names, or the sign-in form without a token.
 * @param {string} [reason] why the token was dropped
 */
function route(reason = "") {
  view?.stop();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  notify("");
  silence();
  const carried = tokenFromFragment();
  if (carried) session.keep(carried);
  const address = addressOf(location.hash);
  const signedIn = session.token !== null;
  view = signedIn ? viewOf(address) : signIn(reason, () => route());
  document.title = view.title === "Runs" ? "Runs · SCOPE-RL" : `${view.title} · SCOPE-RL`;
  signOut.hidden = !signedIn;
  trail.replaceChildren(...(signedIn && address.view !== "runs" ? [el("a", { href: "#/runs" }, "Runs"), el("span", { "aria-hidden": "true" }, "/"), el("span", { "aria-current": "page" }, view.title)] : []));
  main.replaceChildren(view.element);
  view.focus();
}

/**
 * @param {import("./address.js").Address} address
 * @returns {View}
 */
function viewOf({ view: name, ids, options }) {
  switch (name) {
    case "run":
      return runView(ids[0], options);
    case "compare":
      return compareView(ids, options);
    default:
      return runsView();
  }
}

skip.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
signOut.addEventListener("click", () => {
  session.end();
  route();
});
window.addEventListener("hashchange", () => route());
onRefusedToken((reason) => {
  if (isReplaced()) return;
  session.end();
  route(reason);
});
route();
