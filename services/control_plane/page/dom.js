// @ts-check
// Creating elements. Text always becomes a text node: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {string | number | Node | null | undefined} Child
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes
 */

/**
 * An HTML element. An attribute that is a function listens to the event of that name; true sets an attribute, false and null
 * omit it.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * An SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(/** @type {any} */ (document.createElementNS(SVG, tag)), attributes, children);
}

/**
 * Set the text of a node if it differs, so that screen readers do not announce an unchanged live region.
 * @param {Element} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Set attributes of an element.
 * @param {Element} node
 * @param {Attributes} attributes
 */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === false || value === null || value === undefined) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * A table with a caption, headings and an empty body.
 * @param {string} caption
 * @param {string[]} headings
 * @param {string} name the table's class
 */
export function table(caption, headings, name) {
  const body = el("tbody");
  const heads = headings.map((heading) => el("th", { scope: "col" }, heading));
  const made = el("table", { class: name }, el("caption", { class: "unseen" }, caption), el("thead", {}, el("tr", {}, ...heads)), body);
  return { table: made, body };
}

/**
 * A row whose cells carry their heading, for narrow screens; the first cell is the row's header.
 * @param {string[]} headings
 * @param {Child[]} cells
 */
export function row(headings, cells) {
  return el(
    "tr",
    {},
    ...cells.map((cell, index) =>
      index === 0
        ? el("th", { scope: "row", "data-heading": headings[index] }, cell)
        : el("td", { "data-heading": headings[index] }, cell),
    ),
  );
}

/**
 * @template {Element} Made
 * @param {Made} node
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {Made}
 */
function filled(node, attributes, children) {
  set(node, attributes);
  for (const child of children) {
    if (child !== null && child !== undefined) node.append(child instanceof Node ? child : String(child));
  }
  return node;
}
