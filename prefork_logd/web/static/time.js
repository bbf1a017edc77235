/**
 * Writes times in the reader's time zone.
 *
 * Knows zones, ranges and their texts. Does not know the page's state.
 */

import { formatCount } from "./numbers.js";
export const LOCAL_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
export const RANGES = [
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["4h", "Last 4 hours"],
  ["1d", "Last day"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["all", "All records"],
];
const SLOT_UNITS = [
  [86400, "day"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600];
const formats = new Map();
const seconds = new Map();

function format(zone, name, options) {
  const key = `${zone} ${name}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  return formats.get(key);
}

/** Return the IANA name of a zone of the page's state: "" is the reader's own. */
export function zoneName(zone) {
  return zone || LOCAL_ZONE;
}

/** Return every zone that the browser knows. */
export function zones() {
  return Intl.supportedValuesOf ? Intl.supportedValuesOf("timeZone") : [LOCAL_ZONE];
}

/** Return `13:43:51` of a time in seconds since 1970. */
export function clock(created, zone) {
  const key = `${Math.floor(created)} ${zone}`;
  let text = seconds.get(key);
  if (text === undefined) {
    if (seconds.size > 5000) seconds.clear();
    text = format(zone, "clock", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(created * 1000);
    seconds.set(key, text);
  }
  return text;
}

/** Return the six digits behind the second: those of the stored text, else of the number. */
export function microseconds(record, created) {
  const stored = /\.(\d{6})Z$/.exec(record.time ?? "");
  return stored ? stored[1] : String(Math.floor((created % 1) * 1e6)).padStart(6, "0");
}

/** Return `Sunday 29 November 2026`. */
export function day(created, zone) {
  return format(zone, "day", { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(created * 1000).replace(",", "");
}

/** Return `2026-11-29 13:43:51`. */
export function dateTime(created, zone) {
  const parts = format(zone, "date", { year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(created * 1000);
  const part = (type) => parts.find((one) => one.type === type).value;
  return `${part("year")}-${part("month")}-${part("day")} ${clock(created, zone)}`;
}

/** Return the clock of a time, with the date if it is not that of another time, `today_s`. */
export function shortTime(created, zone, today_s) {
  const text = dateTime(Number(created), zone);
  const [today] = dateTime(today_s, zone).split(" ");
  return text.startsWith(today) ? text.slice(today.length + 1) : text.slice(0, -3);
}

/** Return the exact time in the zone and in UTC, for a title. */
export function exact(record, created, zone) {
  const offset = format(zone, "offset", { timeZoneName: "longOffset" }).formatToParts(created * 1000).find((one) => one.type === "timeZoneName").value;
  const utc = record.time ?? new Date(created * 1000).toISOString();
  return `${dateTime(created, zone)}.${microseconds(record, created)} ${offset.replace("GMT", "UTC")}\n${utc}`;
}

/** Return the seconds by which a zone is ahead of UTC. */
function offset_s(created, zone) {
  const text = format(zone, "offset", { timeZoneName: "longOffset" }).formatToParts(created * 1000).find((one) => one.type === "timeZoneName").value;
  const match = /([+-])(\d\d):(\d\d)/.exec(text);
  return match ? Number(`${match[1]}1`) * (Number(match[2]) * 3600 + Number(match[3]) * 60) : 0;
}

/** Return the times between two that are round in the zone, at least `least_s` apart and on the edges of slots. */
export function ticks(start, end, slot_s, least_s, zone) {
  const step_s = STEPS.find((one) => one >= least_s && one % slot_s === 0) ?? Math.ceil(least_s / slot_s) * slot_s;
  const ahead_s = offset_s(start, zone);
  const found = [];
  for (let at = Math.ceil((start + ahead_s) / step_s) * step_s - ahead_s; at < end; at += step_s) found.push(at);
  return found;
}

/** Return `13:43`, with the day in front where slots are long. */
export function tick(created, zone, slot_s) {
  if (slot_s >= 86400) return format(zone, "tick day", { day: "numeric", month: "short" }).format(created * 1000);
  if (slot_s >= 3600) return format(zone, "tick hour", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(created * 1000).replace(",", "");
  return slot_s >= 60 ? clock(created, zone).slice(0, 5) : clock(created, zone);
}

/** Return `1.2 s`, `3 min`, `2 h`: a length of time, short. */
export function duration(length_s) {
  if (length_s < 0.001) return "0 s";
  if (length_s < 1) return `${Math.round(length_s * 1000)} ms`;
  if (length_s < 10) return `${Number(length_s.toFixed(1))} s`;
  if (length_s < 120) return `${Math.round(length_s)} s`;
  if (length_s < 7200) return `${Math.round(length_s / 60)} min`;
  return length_s < 172800 ? `${Math.round(length_s / 3600)} h` : formatCount(length_s / 86400, "day");
}

/** Return the length of a slot as it follows "a": `h`, `5 min`, `day`. */
export function slotName(length_s) {
  const whole = SLOT_UNITS.find(([unit]) => length_s % unit === 0);
  if (!whole) return duration(length_s);
  const [unit, name] = whole;
  const count = length_s / unit;
  return count === 1 ? name : `${count} ${name}${name === "day" ? "s" : ""}`;
}

/** Return the seconds of a relative time such as `15m`; null for another text. */
function relative(text) {
  const match = /^(\d+)\s*([smhdw])$/.exec(text.trim());
  return match ? Number(match[1]) * UNITS[match[2]] : null;
}

/** Return a time of the state as the API takes it: "all" is no bound. */
export function bound(text) {
  return text === "all" ? "" : text;
}

/** Return seconds since 1970 as ISO 8601 in UTC, to the millisecond. */
export function iso(created) {
  return new Date(created * 1000).toISOString();
}

/** Return what a range is called. */
export function rangeText(since, until, zone) {
  if (!until) {
    const known = RANGES.find(([value]) => value === since);
    if (known) return known[1];
    return relative(since) === null ? `Since ${boundText(since, zone)}` : `Last ${since}`;
  }
  return since === "all" ? `Until ${boundText(until, zone)}` : `${boundText(since, zone)} to ${boundText(until, zone)}`;
}

function boundText(text, zone) {
  let created = NaN;
  if (/^\d{4}-\d\d-\d\dT.*Z$/.test(text)) created = Date.parse(text) / 1000;
  else if (/^@\d+(\.\d+)?$/.test(text)) created = Number(text.slice(1));
  return Number.isNaN(created) ? text : dateTime(created, zone);
}
