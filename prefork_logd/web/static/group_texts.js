/**
 * Writes the parts of a group of errors that several places show: its title, its state, its times, its bars.
 *
 * Does not know how groups are asked for.
 */

import { h, shown, svg } from "./dom.js";
import { levelClass } from "./levels.js";
import { formatCount } from "./numbers.js";
import { dateTime, duration, exact, iso } from "./time.js";

const NEW_S = 3600;
const DAY_S = 86400;
const TYPE = /^[A-Z]\w*(?=: |$)/u;
const NAMES = { new: "New", open: "Open", regressed: "Regressed", muted: "Muted", resolved: "Resolved" };

/** Return the title of a group, with the type of its exception first. */
export function titleOf(group) {
  const type = TYPE.exec(group.title)?.[0] ?? "";
  return [type ? h("b", {}, shown(type, false)) : null, shown(group.title.slice(type.length), false)];
}

/** Return the title of a group for the browser's tab. */
export function plainTitle(group) {
  return shown(group.title, false).textContent;
}

/** Return the name of a group's state: one that began to happen within the last hour is new. */
export function stateName(group, now_s) {
  return group.state === "open" && now_s - Number(group.first_seen) < NEW_S ? "new" : group.state;
}

/** Return the sign of a group's state. */
export function badge(group, now_s) {
  const name = stateName(group, now_s);
  return h("span", { class: `badge ${name}` }, NAMES[name]);
}

/** Return a sentence about the state, as nodes. */
export function stateSentence(group, zone) {
  if (group.state === "open") return ["Nobody has resolved or muted it."];
  if (group.state === "regressed") return ["It was resolved, and has happened again."];
  if (group.state === "resolved") {
    const version = group.resolved_in ? [" in ", h("code", {}, shown(group.resolved_in, false))] : [];
    return ["Resolved", version, ", ", moment(group.resolved_at, zone), ". A later error makes it regress."];
  }
  const left = Number(group.muted_count) - Number(group.count);
  const ends = [];
  if (Number(group.muted_until)) ends.push([h("time", { title: exact({}, Number(group.muted_until), zone) }, dateTime(Number(group.muted_until), zone))]);
  if (Number(group.muted_count)) ends.push([formatCount(Math.max(0, left), "more error")]);
  if (ends.length === 0) return ["Muted for ever."];
  return ["Muted until ", ends[0], ends.length > 1 ? [" or until ", ends[1]] : "", "."];
}

/** Return how long ago a time was. */
export function agoText(created, now_s) {
  const passed_s = Math.floor(now_s - Number(created));
  return passed_s < 3 ? "just now" : `${duration(passed_s)} ago`;
}

/** Return how long ago a time was, as an element; its tip is the exact time. */
export function ago(created, zone, now_s) {
  return h("time", { title: exact({}, Number(created), zone) }, agoText(created, now_s));
}

/** Return a time as date and clock; its tip is the exact time. */
export function moment(created, zone) {
  return h("time", { title: exact({}, Number(created), zone) }, dateTime(Number(created), zone));
}

/** Return a bar for each number, the highest as high as the picture. */
export function bars(numbers, level, label) {
  const most = Math.max(1, ...numbers.map(Number));
  const width = 100 / numbers.length;
  const shapes = numbers.map((number, at) => {
    const height = Number(number) ? Math.max(2, (Number(number) / most) * 24) : 0.75;
    return svg("rect", { class: Number(number) ? `bar-${levelClass(level)}` : "bar-none", x: at * width, y: 24 - height, width: width * 0.8, height });
  });
  return svg("svg", { class: "bars", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": label }, shapes);
}

/** Return the address of a group's page. */
export function groupPath(id) {
  return `/errors/${id}`;
}

/** Return the address of a group's records: those of the day before its latest error, or of a range. */
export function recordsAddress(group, since_s = Number(group.last_seen) - DAY_S, until_s = Number(group.last_seen) + 1) {
  return `/?${new URLSearchParams({ q: `fingerprint=${group.id}`, since: iso(since_s), until: iso(until_s) })}`;
}

/** Return the command that prints the group's records of the day before its latest error, and later ones. */
export function recordsCommand(group) {
  return `prefork-logd query 'fingerprint=${group.id}' --since ${iso(Number(group.last_seen) - DAY_S)}`;
}
