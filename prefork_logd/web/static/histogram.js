/**
 * Draws records over time as bars stacked by level; a drag over them, or keys, choose a range.
 *
 * Does not know where the bars come from.
 */

import { Brush } from "./brush.js";
import { h, svg } from "./dom.js";
import { LEVELS, levelClass } from "./levels.js";
import { formatCount } from "./numbers.js";
import { dateTime, duration, slotName, tick, ticks } from "./time.js";

const HEIGHT = 80;
const STACK = LEVELS.toReversed();

/** The chart. `onRange` gets start and end in seconds since 1970. */
export class Histogram {
  constructor(place, onRange) {
    this.place = place;
    this.onRange = onRange;
    this.data = null;
    this.zone = "UTC";
    this.chart = svg("svg", { class: "chart", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.box = h("div", { class: "chart-box", tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-keyshortcuts": "ArrowLeft ArrowRight Shift+ArrowLeft Shift+ArrowRight Enter" }, this.chart);
    this.said = h("p", { class: "hidden-text", "aria-live": "polite" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.tip = h("div", { class: "chart-tip", hidden: true });
    this.note = h("p", { class: "chart-note" });
    this.chooser = new Brush(this.box, {
      count: () => this.data.slots.length,
      draw: (range) => this.drawBrush(range),
      point: (slot, isByKey) => this.point(slot, isByKey),
      choose: (first, last) => this.choose(first, last),
      chosen: (range) => this.sayRange(range),
    });
    new ResizeObserver(() => this.draw()).observe(place);
    this.say("");
  }

  /** Show a sentence in place of bars. */
  say(sentence) {
    this.data = null;
    this.note.textContent = sentence;
    this.place.replaceChildren(this.note);
  }

  /** Show bars: {start, slot_s, slots, bars: [{slot, levelno, count}]}. */
  show(answer, zone) {
    const slots = Array.from({ length: Number(answer.slots) }, () => ({ total: 0 }));
    for (const bar of answer.bars) {
      const slot = slots[bar.slot];
      if (!slot) continue;
      const name = levelClass(bar.levelno);
      slot[name] = (slot[name] ?? 0) + Number(bar.count);
      slot.total += Number(bar.count);
    }
    this.data = { start: Number(answer.start), slot_s: Number(answer.slot_s), slots };
    this.zone = zone;
    this.chooser.reset();
    this.hideTip();
    // Put in place once: an element that is put in place again loses the focus.
    if (!this.box.isConnected) this.place.replaceChildren(this.box, this.axis, this.tip, this.said);
    this.draw();
  }

  /** Return the number of records in the bars. */
  get total() {
    return this.data ? this.data.slots.reduce((sum, slot) => sum + slot.total, 0) : 0;
  }

  choose(first, last) {
    const { start, slot_s } = this.data;
    this.onRange(start + first * slot_s, start + (last + 1) * slot_s);
  }

  get end() {
    return this.data.start + this.data.slots.length * this.data.slot_s;
  }

  draw() {
    if (!this.data) return;
    const width = this.box.clientWidth || 600;
    const { slots } = this.data;
    const most = Math.max(1, ...slots.map((slot) => slot.total));
    const step = width / slots.length;
    const gap = step > 4 ? 1 : 0;
    const shapes = [0.5, 1].map((part) => svg("line", { class: "grid", x1: 0, x2: width, y1: HEIGHT * (1 - part) + 0.5, y2: HEIGHT * (1 - part) + 0.5 }));
    slots.forEach((slot, number) => {
      let y = HEIGHT;
      for (const { name } of STACK) {
        if (!slot[name]) continue;
        const height = Math.max(1, (slot[name] / most) * (HEIGHT - 2));
        y -= height;
        shapes.push(svg("rect", { class: `bar-${name}`, x: number * step, y, width: Math.max(1, step - gap), height }));
      }
    });
    this.hover = svg("rect", { class: "hover", y: 0, height: HEIGHT, width: step, visibility: "hidden" });
    this.brush = svg("rect", { class: "brush", y: 0, height: HEIGHT, visibility: "hidden" });
    this.chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.chart.replaceChildren(...shapes, this.hover, this.brush);
    this.box.setAttribute("aria-label", this.description());
    this.box.setAttribute("aria-valuemax", slots.length - 1);
    this.box.setAttribute("aria-valuenow", this.chooser.place);
    this.box.setAttribute("aria-valuetext", this.time(this.chooser.place));
    this.drawAxis(width, most);
  }

  drawAxis(width, most) {
    const { start, slot_s, slots } = this.data;
    const least_s = slot_s * Math.ceil(slots.length / Math.max(2, Math.floor(width / 110)));
    const spans = [];
    for (const at of ticks(start, this.end, slot_s, least_s, this.zone)) {
      const left = ((at - start) / slot_s / slots.length) * width;
      // The last ones would lie below the scale, the first one beyond the edge.
      if (left > width - 150 || (left > 0 && left < 24)) continue;
      const span = h("span", { class: left === 0 ? "first" : null }, tick(at, this.zone, slot_s));
      span.style.left = `${left}px`;
      spans.push(span);
    }
    const scale = this.total ? h("span", { class: "scale" }, `max ${most.toLocaleString("en")} / ${slotName(slot_s)}`) : "";
    this.axis.replaceChildren(...spans, scale);
  }

  description() {
    const { start, slot_s } = this.data;
    const sums = LEVELS.map(({ name, label }) => [label, this.data.slots.reduce((sum, slot) => sum + (slot[name] ?? 0), 0)]);
    const parts = sums.filter(([, count]) => count > 0).map(([label, count]) => `${count} ${label}`);
    return `Records from ${dateTime(start, this.zone)} to ${dateTime(this.end, this.zone)} in slots of ${duration(slot_s)}: ${parts.join(", ") || "none"}`;
  }

  drawBrush(range) {
    if (range === null) return this.brush?.setAttribute("visibility", "hidden");
    const [first, last] = range;
    const step = this.box.clientWidth / this.data.slots.length;
    this.brush.setAttribute("x", first * step);
    this.brush.setAttribute("width", (last - first + 1) * step);
    return this.brush.setAttribute("visibility", "visible");
  }

  /** Show what is in a slot; null hides it. A screen reader reads it as the value of the chart. */
  point(number, isByKey = false) {
    if (number === null || !this.data) return this.hideTip();
    const { start, slot_s, slots } = this.data;
    const counts = this.countsOf(slots[number]);
    if (isByKey) {
      this.box.setAttribute("aria-valuenow", number);
      this.box.setAttribute("aria-valuetext", `${this.time(number)}: ${counts.map(([{ label }, count]) => `${count} ${label}`).join(", ") || "no records"}`);
    }
    const rows = counts.map(([{ name, label }, count]) => h("p", {}, h("span", { class: `level ${name}` }, label), h("span", {}, count.toLocaleString("en"))));
    this.tip.replaceChildren(h("p", {}, `${dateTime(start + number * slot_s, this.zone)} + ${duration(slot_s)}`), ...rows);
    this.tip.hidden = false;
    const step = this.box.clientWidth / slots.length;
    const left = this.box.offsetLeft + (number + 1) * step + 8;
    const isRight = left + this.tip.offsetWidth < this.place.clientWidth;
    this.tip.style.left = `${isRight ? left : left - step - 16 - this.tip.offsetWidth}px`;
    this.hover.setAttribute("x", number * step);
    return this.hover.setAttribute("visibility", "visible");
  }

  countsOf(slot) {
    return LEVELS.filter(({ name }) => slot[name]).map((level) => [level, slot[level.name]]);
  }

  time(number) {
    return dateTime(this.data.start + number * this.data.slot_s, this.zone);
  }

  /** Say the range that keys have chosen. */
  sayRange(range) {
    if (range === null) return (this.said.textContent = "No range is chosen");
    const [first, last] = range;
    const count = this.data.slots.slice(first, last + 1).reduce((sum, slot) => sum + slot.total, 0);
    return (this.said.textContent = `${this.time(first)} to ${this.time(last + 1)}, ${formatCount(count, "record")}. Enter searches this range.`);
  }

  hideTip() {
    this.tip.hidden = true;
    this.hover?.setAttribute("visibility", "hidden");
  }
}
