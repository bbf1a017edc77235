/**
 * Lists groups of errors. No row moves while the reader points at rows or writes.
 *
 * Does not know how groups are asked for, or which filters there are.
 */

import { h, shown } from "./dom.js";
import { ago, agoText, badge, bars, groupPath, stateName, titleOf } from "./group_texts.js";
import { levelClass } from "./levels.js";
import { formatCount, number } from "./numbers.js";

const COLUMNS = [
  ["what", "Error"],
  ["chart", "Last 24 hours"],
  ["number", "Errors"],
  ["last", "Last seen"],
  ["first", "First seen"],
  ["who", "Assignee"],
];
const PLACEHOLDERS = 12;
const QUIET_MS = 3000;

/** The list. `actions`: open (of an id), service (of a name). */
export class ErrorList {
  constructor(place, actions) {
    this.place = place;
    this.actions = actions;
    this.rows = new Map();
    this.signs = new WeakMap();
    this.chosen = null;
    this.body = null;
    this.release();
    place.addEventListener("click", (event) => this.onClick(event));
    for (const name of ["pointermove", "pointerdown", "focusin", "keydown", "scroll"]) place.addEventListener(name, () => (this.usedAt = performance.now()), { passive: true });
  }

  /** The ids of the groups in the order of the list. */
  get ids() {
    return [...this.rows.keys()];
  }

  /** Whether the reader is just doing something in the list: then no row may move. */
  get isInUse() {
    return performance.now() - this.usedAt < QUIET_MS;
  }

  /** Let the next groups come at once, also while the reader points at the list. */
  release() {
    this.usedAt = -Infinity;
  }

  /** Show the places of groups that are being loaded. */
  showLoading() {
    const cell = ([kind]) => h("td", { class: kind }, h("span", {}));
    const rows = Array.from({ length: PLACEHOLDERS }, () => h("tr", { class: "placeholder", "aria-hidden": "true" }, COLUMNS.map(cell)));
    this.makeTable("Groups of errors are loading").append(...rows);
    this.place.setAttribute("aria-busy", "true");
  }

  /** Show a state with actions: buttons or links. */
  say(title, sentence, actions = []) {
    this.reset();
    this.place.replaceChildren(h("div", { class: "state" }, h("h2", {}, title), h("p", {}, shown(sentence)), actions.length ? h("div", { class: "state-actions" }, actions) : null));
  }

  reset() {
    this.rows.clear();
    this.body = null;
    this.place.removeAttribute("aria-busy");
  }

  makeTable(caption) {
    this.reset();
    this.body = h("tbody", {});
    const heads = COLUMNS.map(([kind, text]) => h("th", { class: kind, scope: "col" }, text));
    this.place.replaceChildren(h("table", { class: "groups" }, h("caption", { class: "hidden-text" }, caption), h("thead", {}, h("tr", {}, heads)), this.body));
    return this.body;
  }

  /** Show groups in their order. */
  show(groups, zone, now_s) {
    if (this.body === null || this.place.hasAttribute("aria-busy")) this.makeTable("Groups of errors");
    const known = this.rows;
    this.rows = new Map();
    for (const group of groups) this.rows.set(group.id, known.get(group.id) ?? h("tr", {}));
    for (const group of groups) this.fill(group, zone, now_s);
    const wanted = [...this.rows.values()];
    if (wanted.length === this.body.rows.length && wanted.every((row, at) => row === this.body.rows[at])) return;
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    const { usedAt } = this;
    this.body.replaceChildren(...wanted);
    focused?.focus({ preventScroll: true });
    this.usedAt = usedAt;
  }

  /** Show what has changed of groups that are listed; no row comes, goes or moves. */
  update(groups, zone, now_s) {
    for (const group of groups) if (this.rows.has(group.id)) this.fill(group, zone, now_s);
  }

  fill(group, zone, now_s) {
    const row = this.rows.get(group.id);
    // Of a thousand rows most are the same as two seconds before.
    const sign = JSON.stringify([group, agoText(group.last_seen, now_s), agoText(group.first_seen, now_s), stateName(group, now_s)]);
    if (this.signs.get(row) === sign) return;
    this.signs.set(row, sign);
    const made = this.row(group, zone, now_s);
    row.className = made.className;
    row.dataset.id = group.id;
    if (row.cells.length === 0) row.replaceChildren(...made.cells);
    else [...made.cells].forEach((cell, at) => {
      if (cell.isEqualNode(row.cells[at])) return;
      const hadFocus = row.cells[at].contains(document.activeElement);
      row.cells[at].replaceWith(cell);
      if (hadFocus) cell.querySelector("a")?.focus({ preventScroll: true });
    });
  }

  row(group, zone, now_s) {
    const sum = group.chart.reduce((total, number) => total + Number(number), 0);
    const chart = bars(group.chart, group.level, `${formatCount(sum, "error")} in the last 24 hours`);
    return h(
      "tr",
      { class: `group ${levelClass(group.level)} ${group.state}` },
      h("td", { class: "what" }, h("a", { class: "title", href: groupPath(group.id) }, titleOf(group)), h("p", { class: "about" }, stateName(group, now_s) === "open" ? null : badge(group, now_s), this.about(group))),
      h("td", { class: "chart" }, chart, h("small", {}, number(sum))),
      h("td", { class: "number" }, number(group.count)),
      h("td", { class: "last" }, ago(group.last_seen, zone, now_s), h("small", {}, "first ", ago(group.first_seen, zone, now_s))),
      h("td", { class: "first" }, ago(group.first_seen, zone, now_s)),
      h("td", { class: "who" }, group.assignee ? shown(group.assignee, false) : null),
    );
  }

  /** Return the place of an error, its services and its latest version. */
  about(group) {
    const [service, ...others] = group.services;
    const more = others.length ? ` +${others.length}` : "";
    const title = group.services.join(", ");
    return [
      h("span", { class: "place" }, shown(group.culprit || group.logger, false)),
      service ? h("button", { type: "button", class: "service", title: `Only errors of ${service}`, data: { service } }, shown(service, false)) : null,
      more ? h("span", { title }, more) : null,
      group.versions.length ? h("span", { class: "version", title: `Versions: ${group.versions.join(", ")}` }, shown(group.versions[0], false)) : null,
      group.note ? h("span", { class: "note", title: group.note }, shown(group.note.split("\n")[0], false)) : null,
    ];
  }

  /** Focus the next row (1) or the one before (-1). */
  move(direction) {
    const { ids } = this;
    if (ids.length === 0) return;
    const at = ids.indexOf(this.chosen);
    this.chosen = ids[Math.max(0, Math.min(ids.length - 1, at < 0 ? 0 : at + direction))];
    const row = this.rows.get(this.chosen);
    row.querySelector("a").focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  /** Focus a row again, after its page was left. */
  focus(id) {
    this.chosen = id;
    this.rows.get(id)?.querySelector("a").focus({ preventScroll: true });
  }

  onClick(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const service = event.target.closest("button.service");
    if (service) return this.actions.service(service.dataset.service);
    const row = event.target.closest("tr.group");
    // Somebody who marks a text with the mouse does not open the group.
    if (!row || (!event.target.closest("a") && String(getSelection()) !== "")) return;
    event.preventDefault();
    this.actions.open(row.dataset.id);
  }
}
