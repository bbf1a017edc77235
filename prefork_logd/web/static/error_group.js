/**
 * Shows one group of errors: its figures, its hours, its records, where it happens, and its history.
 *
 * Does not know how the group is asked for.
 */

import { Detail } from "./detail.js";
import { announce, button, copy, h, icon, shown } from "./dom.js";
import { ErrorChanges } from "./error_changes.js";
import { ago, badge, moment, recordsAddress, recordsCommand, stateSentence, titleOf } from "./group_texts.js";
import { Histogram } from "./histogram.js";
import { levelClass } from "./levels.js";
import { number } from "./numbers.js";
import { panel, table } from "./panel.js";
import { condition, excluding, including } from "./query_text.js";
import { duration, shortTime } from "./time.js";

const HOUR_S = 3600;
const AROUND_S = 1800;
const EVENTS = { new: "First error", regressed: "Regressed", unmuted: "Opened again", resolved: "Resolved", opened: "Reopened", muted: "Muted", assigned: "Assigned", noted: "Note", split: "Split off", joined: "Joined" };
const LEVELS = { critical: "CRITICAL", error: "ERROR", warning: "WARNING", info: "INFO", debug: "DEBUG" };

/** The page of a group. `actions`: changed (after a change by the reader), open (of an id). */
export class ErrorGroup {
  constructor(place, zone, actions) {
    this.place = place;
    this.zone = zone;
    this.actions = actions;
    this.details = null;
    this.chosen = null;
    this.parts = new Map();
    this.changes = new ErrorChanges({ changed: (group) => this.onChange(group), split: actions.changed, joined: (group) => actions.open(group.id) });
    this.detail = new Detail(h("div", { class: "detail" }), {
      include: (field, value) => this.search((q) => including(q, condition(field, value))),
      exclude: (field, value) => this.search((q) => excluding(q, condition(field, value))),
      column: (field) => this.search((q) => q, { columns: `service,name,${field}` }),
      search: (one) => location.assign(`/?${new URLSearchParams({ q: one, since: "all" })}`),
      context: (one, same) => location.assign(`/?${new URLSearchParams({ around: one.id, same })}`),
      linkTo: (one) => this.recordAddress(one),
      store: () => "",
    });
    this.makeFrame();
  }

  makeFrame() {
    const slot = (name, kind = "") => {
      const element = h("div", { class: `slot ${kind}`.trim() });
      this.parts.set(name, element);
      return element;
    };
    this.title = h("h1", { tabindex: -1 }, "Error");
    this.bars = h("div", { class: "histogram" });
    this.histogram = new Histogram(this.bars, (start, end) => location.assign(recordsAddress(this.details.group, start, end)));
    this.place.replaceChildren(
      h("header", { class: "group-head" }, h("div", { class: "group-line" }, h("a", { class: "back", href: "/errors" }, icon("back"), "Errors"), slot("badge"), slot("key")), this.title, slot("place"), h("div", { class: "group-actions" }, this.changes.buttons, slot("links"))),
      slot("figures", "wide"),
      h("section", { class: "panel wide", "aria-label": "Errors by hour" }, h("h2", {}, "By hour, last 14 days"), this.bars),
      h("div", { class: "group-columns" },
        h("div", { class: "column" }, h("section", { class: "panel", "aria-label": "Records" }, h("h2", {}, "Records"), slot("samples"), this.detail.place), slot("variants"), slot("forms")),
        h("div", { class: "column" }, h("section", { class: "panel", "aria-label": "State" }, h("h2", {}, "State"), slot("state"), h("h3", {}, "Note"), this.changes.note), slot("senders"), slot("events"))),
    );
    /** Is over when it is known what the reader may do. */
    this.ready = this.changes.start().catch((error) => announce(error.message));
  }

  /** Forget the group. */
  clear() {
    this.details = null;
    this.chosen = null;
    this.changes.show(null);
    this.title.textContent = "Error";
    this.histogram.say("");
    this.detail.close();
    for (const part of this.parts.values()) part.replaceChildren();
  }

  /** Show an answer of /errors/ID. */
  show(details, now_s) {
    const before = this.details?.group;
    this.details = details;
    const { group } = details;
    this.title.replaceChildren(...titleOf(group).filter((part) => part !== null));
    this.drawGroup(group, now_s);
    this.histogram.show({ start: details.hours_from, slot_s: HOUR_S, slots: details.hours.length, bars: details.hours.flatMap((number, slot) => (Number(number) ? [{ slot, levelno: group.level, count: number }] : [])) }, this.zone);
    this.put("variants", this.variants());
    this.put("forms", this.forms());
    this.put("senders", this.senders(now_s));
    this.put("events", this.events());
    this.drawSamples();
    if (before === undefined && document.activeElement === document.body) this.title.focus({ preventScroll: true });
    if (before && before.state !== group.state && group.state === "regressed") announce("It has happened again: regressed");
    else if (before?.state === "muted" && group.state === "open") announce("No longer muted: it has happened so often, or its time is over");
  }

  drawGroup(group, now_s) {
    this.changes.show(group);
    this.put("badge", badge(group, now_s));
    this.put("key", h("code", {}, group.id));
    this.put("place", h("p", { class: "group-place" }, h("span", { class: `level ${levelClass(group.level)}` }, LEVELS[levelClass(group.level)]), shown(group.culprit, false), group.logger && group.logger !== group.culprit ? h("span", {}, "logger ", shown(group.logger, false)) : null));
    this.put("links", this.links(group));
    this.put("figures", this.figures(group, now_s));
    this.put("state", h("div", {}, h("p", {}, stateSentence(group, this.zone)), h("p", {}, group.assignee ? ["Assigned to ", h("b", {}, shown(group.assignee, false))] : "Assigned to nobody"), this.changes.isAdmin ? null : h("p", { class: "menu-note" }, "Users with the role admin can change this.")));
  }

  /** Put an element into its place. One that is the same as before stays. */
  put(name, element) {
    const part = this.parts.get(name);
    if (part.childElementCount === 1 && part.firstElementChild.isEqualNode(element)) return;
    part.replaceChildren(element);
  }

  onChange(group) {
    if (this.details === null) return;
    this.details = { ...this.details, group };
    this.drawGroup(group, Date.now() / 1000);
    this.actions.changed();
  }

  links(group) {
    // Listeners are not compared, so what they use is looked up when they are called.
    return h("div", { class: "group-links" },
      h("a", { class: "button", href: recordsAddress(group), title: "Its records of a day, in Search" }, icon("search"), h("span", {}, "Records")),
      button({ text: "Link", name: "link", title: "Copy a link to this page", onclick: () => copy(location.origin + location.pathname, "Link") }),
      button({ text: "Command", name: "terminal", title: "Copy a command that prints its records", onclick: () => copy(recordsCommand(this.details.group), "Command") }));
  }

  figures(group, now_s) {
    const day = group.chart.reduce((sum, number) => sum + Number(number), 0);
    const figure = (title, value, note) => h("div", { class: "figure" }, h("dt", {}, title), h("dd", {}, value), h("dd", { class: "note" }, note));
    return h("dl", { class: "figures" },
      figure("Errors", number(group.count), "since the first one"),
      figure("Last 24 hours", number(day), `${number(group.chart.at(-1))} in this hour`),
      figure("Last seen", ago(group.last_seen, this.zone, now_s), moment(group.last_seen, this.zone)),
      figure("First seen", ago(group.first_seen, this.zone, now_s), moment(group.first_seen, this.zone)),
      figure("Versions", group.versions.length ? shown(group.versions[0], false) : "-", group.versions.length > 1 ? `and ${number(group.versions.length - 1)} before` : "none before"));
  }

  variants() {
    const found = this.details.variants;
    const most = Math.max(1, ...found.map((one) => Number(one.count)));
    const rows = found.map((one) => [
      h("span", { class: "share" }, h("meter", { min: 0, max: most, value: Number(one.count), "aria-hidden": "true" }), shown(one.name, false)),
      number(one.count), moment(one.first_seen, this.zone), moment(one.last_seen, this.zone), this.changes.splitButton(one.name, found.length),
    ]);
    const columns = [["place", "mono"], ["errors", "number"], ["first", "nowrap optional"], ["last", "nowrap optional"], [h("span", { class: "hidden-text" }, "Split off"), "actions"]];
    return panel("Places in the code", "", table("Places in the code", columns, rows));
  }

  forms() {
    const found = this.details.forms;
    const most = Math.max(1, ...found.map((one) => Number(one.count)));
    const rows = found.map((one) => [
      h("span", { class: "share" }, h("meter", { min: 0, max: most, value: Number(one.count), "aria-hidden": "true" }), shown(one.name, false)),
      number(one.count), moment(one.first_seen, this.zone), moment(one.last_seen, this.zone),
    ]);
    const columns = [["message", ""], ["errors", "number"], ["first", "nowrap optional"], ["last", "nowrap optional"]];
    return panel("Messages", "", table("Forms of the message", columns, rows));
  }

  senders(now_s) {
    const rows = this.details.senders.map((one) => [shown(one.name, false), number(one.count), ago(one.last_seen, this.zone, now_s)]);
    return panel("Services", "", table("Services, environments and versions", [["service, environment, version", ""], ["errors", "number"], ["last", "nowrap"]], rows));
  }

  events() {
    const items = this.details.events.map((event) =>
      h("li", {}, moment(event.at, this.zone), h("p", {}, h("b", {}, EVENTS[event.what] ?? event.what), detailOf(event), event.who ? [" by ", shown(event.who, false)] : null)));
    return panel("History", "", h("ol", { class: "history" }, items));
  }

  /** Show the records that the group keeps; one that the reader has chosen stays. */
  drawSamples() {
    const { samples } = this.details;
    const kept = samples.find((one) => one.id === this.chosen) ?? samples[1] ?? samples[0];
    this.put("samples", h("div", { class: "samples", role: "group", "aria-label": "Which record" }, samples.map((one, at) => this.sampleButton(one, at, kept))));
    if (!kept || (kept.id === this.chosen && this.detail.isOpen)) return;
    this.showSample(kept);
  }

  sampleButton(one, at, kept) {
    const name = at === 0 ? "First" : at === 1 ? "Latest" : "";
    const text = `${name} ${shortTime(one.created, this.zone, Date.now() / 1000)}`.trim();
    return button({ text, kind: "small", "aria-pressed": String(one === kept), "data-id": one.id, onclick: () => {
      this.showSample(this.details.samples.find((sample) => sample.id === one.id) ?? one);
      this.drawSamples();
    } });
  }

  showSample(one) {
    this.chosen = one.id;
    if (one.record !== null) this.detail.show(one, this.zone);
    else this.detail.say("This record was too large to keep here. Search has it as long as the store keeps it.", this.recordAddress(one));
  }

  /** Return the address of a record in Search, among the other records of the group. */
  recordAddress(one) {
    const created = Number(one.created);
    return `${recordsAddress(this.details.group, created - AROUND_S, created + AROUND_S)}&record=${encodeURIComponent(one.id)}`;
  }

  search(change, part = {}) {
    const address = new URL(recordsAddress(this.details.group), location.href);
    address.searchParams.set("q", change(address.searchParams.get("q")));
    for (const [name, value] of Object.entries(part)) address.searchParams.set(name, value);
    location.assign(address);
  }
}

function detailOf(event) {
  if (!event.detail || event.what === "noted") return null;
  const detail = event.what === "muted" ? event.detail.replace(/^for (\S+) s/, (_, length_s) => `for ${duration(Number(length_s))}`) : event.detail;
  return [event.what === "assigned" ? " to " : " ", shown(detail.split("\n")[0].slice(0, 200), false)];
}
