/**
 * Builds elements. Every text becomes a text node, so no record can add markup.
 *
 * Does not know what is shown.
 */

const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu;
const NAMES = {
  "\u202a": "left-to-right embedding",
  "\u202b": "right-to-left embedding",
  "\u202c": "pop directional formatting",
  "\u202d": "left-to-right override",
  "\u202e": "right-to-left override",
  "\u2066": "left-to-right isolate",
  "\u2067": "right-to-left isolate",
  "\u2068": "first strong isolate",
  "\u2069": "pop directional isolate",
  "\u001b": "escape",
};

/**
 * Return a new element.
 *
 * @param {string} tag
 * @param {Object} attributes `class`, `on` (event to listener), `data` (dataset); true is an attribute without a value;
 *   false, null and undefined leave it out.
 * @param {...(Node|string|number|null|Array)} children
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return a new SVG element; the same arguments as h(). */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Return a text of a record as nodes. Characters that are invisible or turn the direction of others become their code
 * point in a box, so that a text cannot look like another one.
 */
export function shown(text, keepsNewlines = true) {
  const fragment = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    const sign = match[0];
    if (keepsNewlines && sign === "\r" && text[match.index + 1] === "\n") continue;
    fragment.append(text.slice(at, match.index), marker(sign));
    at = match.index + sign.length;
  }
  fragment.append(text.slice(at));
  return fragment;
}

function marker(sign) {
  const code = "U+" + sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return h("span", { class: "control", title: NAMES[sign] ? `${code} ${NAMES[sign]}` : code }, code);
}

/** Return the icon of a name in icons.svg; a screen reader skips it. */
export function icon(name) {
  const use = svg("use");
  use.setAttribute("href", `${document.documentElement.dataset.static}/icons.svg#${name}`);
  return svg("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, use);
}

/** Return a button with an icon, a text or both. `label` is its name if it has no text. */
export function button({ text = "", name = "", label = "", kind = "", title = "", onclick, ...rest }) {
  return h(
    "button",
    { type: "button", class: `button ${kind}`.trim(), "aria-label": label || null, title: title || label || null, on: { click: onclick }, ...rest },
    name ? icon(name) : null,
    text ? h("span", {}, text) : null,
  );
}

/** Say a sentence to a screen reader, and show it for a few seconds at the edge of the page. */
export function announce(sentence) {
  const place = document.getElementById("announcements");
  const note = h("p", { class: "toast" }, shown(sentence, false));
  place.append(note);
  setTimeout(() => note.remove(), 4000);
}

/** Copy a text and say so; where the browser refuses, show the text to copy by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
  } catch {
    const area = h("textarea", { class: "copy-area", readonly: true, rows: 6, "aria-label": what });
    area.value = text;
    const box = h("dialog", { class: "dialog", "aria-label": `${what}: copy it by hand` }, h("h2", {}, `Copy the ${what.toLowerCase()}`), area,
      h("form", { method: "dialog" }, h("button", { class: "button" }, "Close")));
    box.addEventListener("close", () => box.remove());
    document.body.append(box);
    box.showModal();
    area.select();
  }
}
