// @ts-check
// Sign-in: the token is tested on the control plane before it is stored. A link may carry it, behind the # of the address.

import { Problem, call, session } from "./api.js";
import { command } from "./command.js";
import { el, say } from "./dom.js";

/** `token=…` anywhere behind the #, with the character that joins it to the rest. */
const IN_ADDRESS = /(^#|[?&])token=([^&]*)(&|$)/;
const SECRET = "kubectl -n scope-rl get secret scope-secrets -o jsonpath='{.data.token}' | base64 -d";

/**
 * Take the token out of the address, as `#token=…` or `#/runs/ID?token=…`, and remove it there at once, also from the
 * history of the browser. What follows the # never reaches a server.
 * @returns {string} empty without one
 */
export function tokenFromFragment() {
  const found = IN_ADDRESS.exec(location.hash);
  if (!found) return "";
  const [whole, before, token, after] = found;
  const left = location.hash.replace(whole, after === "&" ? before : "");
  history.replaceState(null, "", `${location.pathname}${location.search}${left === "#" ? "" : left}`);
  try {
    return decodeURIComponent(token).trim();
  } catch {
    return "";
  }
}

/**
 * The form.
 * @param {string} reason why the user has to sign in again; empty the first time
 * @param {() => void} onSignedIn
 */
export function signIn(reason, onSignedIn) {
  const token = el("input", {
    id: "token",
    name: "token",
    type: "password",
    autocomplete: "current-password",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-note token-fault",
  });
  const wrong = el("p", { id: "token-fault", class: "message", role: "alert", "data-kind": "error" }, reason);
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    // Copied out of a terminal, a token may have a line break in it.
    const given = token.value.replace(/\s+/g, "");
    const fault = faultOf(given);
    if (fault) {
      say(wrong, fault);
      token.focus();
      return;
    }
    button.disabled = true;
    try {
      await call("/v1/runs?limit=1", { token: given });
      session.keep(given);
      onSignedIn();
    } catch (error) {
      say(wrong, refusal(/** @type {Error} */ (error)));
      token.focus();
      token.select();
    }
    button.disabled = false;
  };
  const form = el(
    "form",
    { class: "sign-in", novalidate: true, submit },
    el("h1", {}, "Sign in"),
    el("p", {}, "Watch runs and change their entropy target."),
    // For password managers, which store a token under a user name.
    el("input", { type: "text", name: "username", autocomplete: "username", value: "scope-rl", hidden: true }),
    el("label", { for: "token" }, "Token"),
    token,
    el("p", { id: "token-note", class: "note" }, "The token is kept in this tab only, until the tab is closed."),
    wrong,
    button,
    origin(),
  );
  return { element: form, title: "Sign in", focus: () => token.focus(), stop: () => {} };
}

/** Where a token comes from, and what its scope allows. */
function origin() {
  const scopes = [
    ["viewer", "reads runs, curves and rollouts"],
    ["operator", "also changes the entropy target, pauses, resumes and stops"],
    ["admin", "also manages tokens and reads the audit"],
  ];
  return el(
    "div",
    { class: "origin" },
    el("h2", {}, "Where a token comes from"),
    el("p", {}, "On the machine of the run, this prints one:"),
    command("scope token create --scope operator --name me"),
    el("dl", { class: "facts" }, ...scopes.flatMap(([name, may]) => [el("dt", {}, name), el("dd", {}, may)])),
    el("p", { class: "note" }, "With ", code("--replace"), " it makes a new one in place of a lost one. ", code("scope view RUN"), " prints a link that signs in by itself."),
    el(
      "details",
      {},
      el("summary", {}, "On a Kubernetes cluster"),
      el("p", {}, "The admin token of the service is in its secret:"),
      command(SECRET),
      el("p", {}, "With it in the variable SCOPE_TOKEN, this makes one of your own (CONTEXT: kubectl's):"),
      command("scope token create --context CONTEXT --every-run --scope operator --name me"),
    ),
  );
}

/** @param {string} text */
function code(text) {
  return el("code", {}, text);
}

/**
 * What is wrong with a token before it is sent; empty if nothing is.
 * @param {string} token
 */
function faultOf(token) {
  if (!token) return "Enter a token.";
  // A header cannot carry other characters.
  return /^[\x21-\x7e]+$/.test(token) ? "" : "A token has only letters, digits and signs of ASCII: copy it again, whole.";
}

/** @param {Error} error */
function refusal(error) {
  if (!(error instanceof Problem)) return `${error.message} Is the run, or scope view, still at work?`;
  const unknown = error.status === 401 && !error.message.includes("expired");
  return unknown ? `${error.message} It may be mistyped, of another run, revoked, or replaced by a newer one.` : error.message;
}
