/**
 * Calls what a key stands for, and lists the keys.
 *
 * Does not know what a key does: the views say so.
 */

import { h } from "./dom.js";

const bindings = new Map();
const others = [];
const NAMES = { Escape: "Esc", ArrowLeft: "←", ArrowRight: "→", Shift: "⇧ Shift" };
let help = null;

/**
 * Let a key call a function while no text is being written and no dialog or menu is open.
 *
 * @param {string} key as in KeyboardEvent.key
 * @param {string} meaning for the list of keys
 */
export function bind(key, meaning, call) {
  bindings.set(key, { meaning, call });
}

/** Put keys into the list that an element handles itself while it has the focus. */
export function describeKeys(keys, meaning) {
  others.push([keys, meaning]);
}

/** Open the list of keys. */
export function showKeys() {
  if (help?.open) return;
  help?.remove();
  const row = (keys, meaning) => [h("dt", {}, keys.map((key) => [h("kbd", {}, NAMES[key] ?? key), " "])), h("dd", {}, meaning)];
  const rows = [...[...bindings].map(([key, { meaning }]) => row([key], meaning)), ...others.map(([keys, meaning]) => row(keys, meaning))];
  help = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", { class: "keys" }, rows),
    h("form", { method: "dialog" }, h("button", { class: "button primary" }, "Close")),
  );
  document.body.append(help);
  help.showModal();
}

function isWriting(target) {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open], [popover]:popover-open")) return;
  const bound = bindings.get(event.key);
  if (!bound || (isWriting(event.target) && event.key !== "Escape")) return;
  if (bound.call(event) !== false) event.preventDefault();
});

bind("?", "Show this list", showKeys);
