/**
 * Draws the figures on top of the system view, and keeps the rates of the last minutes.
 *
 * Does not know how the state is asked for.
 */

import { h, svg } from "./dom.js";
import { formatCount, number } from "./numbers.js";
import { duration } from "./time.js";

const MOST_POINTS = 90;
const COUNTERS = ["records", "received_bytes", "rejected", "dropped"];

/** Rates of the collector's counters, from the differences of its states. */
export class Rates {
  constructor() {
    this.last = null;
    this.series = Object.fromEntries(COUNTERS.map((name) => [name, []]));
  }

  add(collector) {
    const { last } = this;
    const passed_s = last ? Number(collector.uptime_s) - Number(last.uptime_s) : 0;
    if (last && passed_s > 0) {
      for (const name of COUNTERS) {
        const points = this.series[name];
        points.push(Math.max(0, Number(collector[name] ?? 0) - Number(last[name] ?? 0)) / passed_s);
        if (points.length > MOST_POINTS) points.shift();
      }
    }
    // Another start of the collector begins with other counters.
    if (passed_s < 0) Object.values(this.series).forEach((points) => points.splice(0));
    if (last === null || passed_s !== 0) this.last = collector;
  }

  /** Return the last rate a second; null before there are two states. */
  rate(name) {
    return this.series[name].at(-1) ?? null;
  }
}

/** Return a size as `1.2 GB`. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = Number(count);
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Return the list of figures of an answer of /status. */
export function figures(state, rates) {
  const { collector, disks } = state;
  const stores = collector.stores ?? [];
  const lags = stores.map((store) => Number(store.lag_s ?? 0));
  const lag_s = Math.max(0, ...lags);
  const journal = collector.journal ?? {};
  const fullest = disks.toSorted((one, other) => share(one) - share(other))[0];
  const trouble = Number(collector.rejected ?? 0) + Number(collector.dropped ?? 0);
  return h(
    "dl",
    { class: "figures" },
    figure("Records a second", number(rates.rate("records")), `${number(collector.records)} since the start`, { points: rates.series.records }),
    figure("Received a second", rates.rate("received_bytes") === null ? "-" : bytes(rates.rate("received_bytes")), `${bytes(collector.received_bytes ?? 0)} since the start`, { points: rates.series.received_bytes }),
    figure("Connections", number(collector.connections), formatCount((collector.children ?? []).filter((child) => child.kind === "worker").length, "worker")),
    figure("Store lag", duration(lag_s), `${formatCount(stores.reduce((sum, store) => sum + Number(store.lag_records ?? 0), 0), "record")} waiting`, { isBad: stores.some((store) => store.failing) }),
    figure("Journal", bytes(journal.bytes ?? 0), `of at most ${bytes(journal.limit ?? 0)}`, { isBad: Boolean(journal.full) }),
    fullest ? figure("Free on disk", bytes(fullest.free_bytes), `of ${bytes(fullest.total_bytes)}, ${fullest.path}`, { isBad: share(fullest) < 0.05 }) : null,
    figure("Rejected, dropped", number(trouble), trouble ? `${number(collector.rejected)} rejected, ${number(collector.dropped)} dropped` : "none since the start", { isBad: trouble > 0 }),
  );
}

function share(disk) {
  return Number(disk.free_bytes) / Math.max(1, Number(disk.total_bytes));
}

function figure(title, value, note, { points = null, isBad = false } = {}) {
  return h(
    "div",
    { class: isBad ? "figure bad" : "figure" },
    h("dt", {}, title),
    h("dd", {}, value),
    h("dd", { class: "note", title: note }, note),
    points ? h("dd", {}, sparkline(title, points)) : null,
  );
}

function sparkline(title, points) {
  const most = Math.max(1, ...points);
  const line = points.map((point, at) => `${(at / (MOST_POINTS - 1)) * 100},${22 - (point / most) * 20}`).join(" ");
  return svg("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": `${title}, last minutes; at most ${number(most)}` }, svg("polyline", { points: line }));
}
