// @ts-check
// Requests to the control plane. The token is only in this tab's session storage and in the Authorization header.

const KEY = "scope-rl.token";
/** Longer than any answer that waits for a step boundary. */
const DEADLINE_SECONDS = 60;
const ROOT = new URL(".", document.baseURI);

/** A refusal or failure with problem details (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {string} kind
   * @param {number | null} retryAfter seconds
   */
  constructor(status, detail, kind, retryAfter) {
    super(detail);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 429 || this.status >= 500 || this.kind === "request-running";
  }
}

/** No answer: the network or the server is down. */
export class Unreachable extends Error {}

/** @type {(reason: string) => void} */
let refused = () => {};
/** The token of this tab that the control plane has accepted. */
let accepted = "";

/**
 * Set what happens when the token is refused.
 * @param {(reason: string) => void} handler
 */
export function onRefusedToken(handler) {
  refused = handler;
}

/** The token, in this tab. */
export const session = {
  get token() {
    return sessionStorage.getItem(KEY);
  },
  /** @param {string} token */
  keep(token) {
    sessionStorage.setItem(KEY, token);
  },
  end() {
    sessionStorage.removeItem(KEY);
  },
};

/**
 * @typedef {object} Call
 * @property {string} [method]
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {string} [token] instead of the one of this tab
 */

/**
 * Send a request and read the JSON of the answer. Without an answer within a minute it is `Unreachable`.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<{body: any, etag: string | null, status: number, at: number}>} at: the server's clock, milliseconds
 */
export async function call(path, call = {}) {
  const deadline = AbortSignal.timeout(1000 * DEADLINE_SECONDS);
  const signal = call.signal ? AbortSignal.any([call.signal, deadline]) : deadline;
  const answer = await open(path, { ...call, signal });
  const body = answer.status === 204 ? null : await read(() => answer.json());
  const at = Date.parse(answer.headers.get("Date") ?? "") || Date.now();
  return { body, etag: answer.headers.get("ETag"), status: answer.status, at };
}

/**
 * Send a request and leave the body of the answer unread.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<Response>}
 */
export async function open(path, { method = "GET", body, headers = {}, signal, token } = {}) {
  const bearer = token ?? session.token ?? "";
  /** @type {Record<string, string>} */
  const sent = { ...headers, Authorization: `Bearer ${bearer}` };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const answer = await read(() =>
    fetch(new URL(path.replace(/^\//, ""), ROOT), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    }),
  );
  if (answer.ok) {
    if (token === undefined) accepted = bearer;
    return answer;
  }
  const problem = await problemOf(answer);
  if (problem.status === 401 && token === undefined && bearer === session.token) refused(reasonOf(problem, bearer));
  throw problem;
}

/**
 * The path of a run, or of one of its subresources.
 * @param {string} id
 * @param {string} [rest]
 */
export function runPath(id, rest = "") {
  return `/v1/runs/${encodeURIComponent(id)}${rest}`;
}

/** A new Idempotency-Key; `crypto.randomUUID` is missing where the page did not come over HTTPS. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @template Result
 * @param {() => Promise<Result>} attempt
 */
async function read(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("The control plane does not answer.", { cause: error });
  }
}

/**
 * Why a token is refused, as far as it is known.
 * @param {Problem} problem
 * @param {string} bearer
 */
function reasonOf({ message }, bearer) {
  const ended = bearer === accepted && !message.includes("expired");
  return ended ? `${message} It was before: it has been revoked or replaced, or another control plane answers here.` : message;
}

/** @param {Response} answer */
async function problemOf(answer) {
  const document = await answer.json().catch(() => ({}));
  const detail = typeof document.detail === "string" ? document.detail : `The server answered ${answer.status}.`;
  const kind = String(document.type ?? "").split(":").at(-1) ?? "";
  const after = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, detail, kind, Number.isFinite(after) && after > 0 ? after : null);
}
