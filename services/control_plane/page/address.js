// @ts-check
// The addresses of the views, in the fragment: `#/runs`, `#/runs/ID`, `#/compare/ID,ID`, each with options after a `?`.

/** The most runs that one view lays over one another. */
export const MOST_COMPARED = 8;

/**
 * @typedef {object} Address
 * @property {"runs" | "run" | "compare"} view
 * @property {string[]} ids the runs of the view
 * @property {URLSearchParams} options
 */

/**
 * The view that a fragment names; the list of runs if it names none.
 * @param {string} hash
 * @returns {Address}
 */
export function addressOf(hash) {
  const [, kind = "", path = "", query = ""] = /^#\/([a-z]+)\/([^/?]+)(?:\?(.*))?$/.exec(hash) ?? [];
  const options = new URLSearchParams(query);
  try {
    if (kind === "runs") return { view: "run", ids: [decodeURIComponent(path)], options };
    const ids = [...new Set(path.split(",").map(decodeURIComponent))].filter((id) => id !== "");
    if (kind === "compare" && ids.length > 0) return { view: "compare", ids, options };
  } catch {
    // A fragment that is not percent-encoded correctly names no view.
  }
  return { view: "runs", ids: [], options };
}

/**
 * The address of one run.
 * @param {string} id
 */
export function runAddress(id) {
  return `#/runs/${encodeURIComponent(id)}`;
}

/**
 * The address of several runs laid over one another.
 * @param {string[]} ids
 */
export function compareAddress(ids) {
  return `#/compare/${ids.map(encodeURIComponent).join(",")}`;
}

/**
 * Replace the options in the address bar; the view stays as it is.
 * @param {URLSearchParams} options
 */
export function keepOptions(options) {
  const text = options.toString();
  history.replaceState(history.state, "", `${location.hash.replace(/\?.*$/, "")}${text && `?${text}`}`);
}
