/**
 * Shows the fields of a record as a tree, with what can be done with each value.
 *
 * Does not know what the actions do.
 */

import { button, h, shown } from "./dom.js";
import { plain, typeOf } from "./json.js";
import { formatCount } from "./numbers.js";
import { fieldText, isComparable } from "./query_text.js";

const MOST_CHILDREN = 100;
const MOST_CHARACTERS = 2000;
const OPEN_DEPTH = 2;

/**
 * Return the list of the members of an object.
 *
 * @param {Array<[string, *]>} entries
 * @param {Array<string|number>} path keys down to the object
 * @param {Object} actions include, exclude, column: functions of field and value
 */
export function valueList(entries, path, actions) {
  return h("dl", { class: "values" }, rows(entries, path, actions, 0));
}

function rows(entries, path, actions, depth) {
  const made = entries.slice(0, MOST_CHILDREN).flatMap(([key, value]) => row(key, value, [...path, key], actions, depth));
  if (entries.length > MOST_CHILDREN) made.push(rest(entries.slice(MOST_CHILDREN), path, actions, depth));
  return made;
}

function rest(entries, path, actions, depth) {
  const more = h("div", { class: "value-row" }, h("dt", {}, "…"), h("dd", {}));
  const open = () => more.replaceWith(...rows(entries, path, actions, depth));
  more.lastChild.append(button({ text: `${entries.length} more`, kind: "small quiet", onclick: open }));
  return more;
}

function row(key, value, path, actions, depth) {
  const type = typeOf(value);
  const isTree = (type === "object" || type === "list") && entriesOf(value).length > 0;
  const name = h("dt", {});
  const content = h("dd", { class: `value-${type}` });
  const line = h("div", { class: "value-row", data: { depth: Math.min(depth, 4) } }, name, content, h("dd", { class: "row-actions" }, actionsOf(path, value, actions)));
  if (!isTree) {
    name.append(shown(String(key), false));
    content.append(leaf(value, type));
    return [line];
  }
  return branch(key, value, path, actions, depth, line);
}

function branch(key, value, path, actions, depth, line) {
  const entries = entriesOf(value);
  const count = entries.length;
  let children = null;
  const twist = h("button", { type: "button", class: "twist", "aria-expanded": "false" }, shown(String(key), false));
  const toggle = () => {
    const isOpen = twist.getAttribute("aria-expanded") === "true";
    children ??= rows(entries, path, actions, depth + 1);
    if (isOpen) children.forEach((child) => child.remove());
    else line.after(...children);
    twist.setAttribute("aria-expanded", String(!isOpen));
  };
  twist.addEventListener("click", toggle);
  line.querySelector("dt").append(twist);
  line.querySelector("dd").append(formatCount(count, Array.isArray(value) ? "item" : "key"));
  if (depth >= OPEN_DEPTH || count > MOST_CHILDREN) return [line];
  twist.setAttribute("aria-expanded", "true");
  children = rows(entries, path, actions, depth + 1);
  return [line, ...children];
}

function entriesOf(value) {
  return Array.isArray(value) ? value.map((item, number) => [number, item]) : Object.entries(value);
}

function leaf(value, type) {
  if (type === "object") return "{}";
  if (type === "list") return "[]";
  const text = plain(value);
  if (text === "") return '""';
  if (text.length <= MOST_CHARACTERS) return shown(text);
  const box = h("span", {}, shown(text.slice(0, MOST_CHARACTERS)));
  box.append(button({ text: `… ${formatCount(text.length - MOST_CHARACTERS, "more character")}`, kind: "small quiet", onclick: () => box.replaceChildren(shown(text)) }));
  return box;
}

function actionsOf(path, value, actions) {
  const field = fieldText(path);
  if (!field) return null;
  const column = button({ name: "column", label: `Show ${field} as a column`, kind: "quiet small", onclick: () => actions.column(field) });
  if (!isComparable(value) || plain(value).length > 1000) return [column];
  return [
    button({ name: "plus", label: `Only records with this ${field}`, kind: "quiet small", onclick: () => actions.include(field, value) }),
    button({ name: "minus", label: `Only records without this ${field}`, kind: "quiet small", onclick: () => actions.exclude(field, value) }),
    column,
  ];
}
