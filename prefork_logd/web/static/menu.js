/**
 * Opens menus below their buttons.
 *
 * Knows the browser's popovers, which close by themselves. Does not know what is in a menu.
 */

import { h } from "./dom.js";

/**
 * Make a button open a menu. `fill` puts the content into the menu each time it opens.
 *
 * @param {HTMLButtonElement} opener
 * @param {string} label the menu's name
 * @param {function(HTMLElement, function(): void): void} fill gets the menu and a function that closes it
 */
export function attachMenu(opener, label, fill, kind = "") {
  const menu = h("div", { class: `menu ${kind}`.trim(), popover: "auto", role: "dialog", "aria-label": label });
  let closedAt = 0;
  opener.setAttribute("aria-expanded", "false");
  opener.setAttribute("aria-haspopup", "dialog");
  opener.after(menu);
  const close = () => menu.hidePopover();
  opener.addEventListener("click", () => {
    // The same click closes an open popover before it arrives here.
    if (performance.now() - closedAt < 100) return;
    menu.replaceChildren();
    fill(menu, close);
    menu.showPopover();
    place(menu, opener);
    menu.querySelector("[autofocus], button, a, input, select")?.focus();
  });
  menu.addEventListener("toggle", (event) => {
    const isOpen = event.newState === "open";
    opener.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) closedAt = performance.now();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") moveFocus(menu, event);
  });
  return { menu, close };
}

/** Return an item: a link if it has an address, else a button. */
export function menuItem({ text, note = "", href = null, onclick = null, isCurrent = false, ...rest }) {
  const attributes = { class: "menu-item", "aria-current": isCurrent ? "true" : null, on: onclick ? { click: onclick } : {}, ...rest };
  const parts = [h("span", {}, text), note ? h("small", {}, note) : null];
  return href === null ? h("button", { type: "button", ...attributes }, parts) : h("a", { href, ...attributes }, parts);
}

function place(menu, opener) {
  const at = opener.getBoundingClientRect();
  const width = menu.offsetWidth;
  const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8));
  const isAbove = at.bottom + menu.offsetHeight + 12 > innerHeight && at.top > menu.offsetHeight + 12;
  menu.style.left = `${left}px`;
  menu.style.top = isAbove ? `${at.top - menu.offsetHeight - 4}px` : `${at.bottom + 4}px`;
}

function moveFocus(menu, event) {
  if (event.target.matches("input, select, textarea")) return;
  const items = [...menu.querySelectorAll(".menu-item")];
  const step = event.key === "ArrowDown" ? 1 : -1;
  items.at((items.indexOf(document.activeElement) + step) % items.length)?.focus();
  event.preventDefault();
}
