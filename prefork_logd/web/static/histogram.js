/**
 * Draws records over time as bars stacked by level; a drag over them chooses a range.
 *
 * Does not know where the bars come from.
 */

import { h, svg } from "./dom.js";
import { LEVELS, levelClass } from "./levels.js";
import { dateTime, duration, tick, ticks } from "./time.js";

const HEIGHT = 80;
const STACK = LEVELS.toReversed();

/** The chart. `onRange` gets start and end in seconds since 1970. */
export class Histogram {
  constructor(place, onRange) {
    this.place = place;
    this.onRange = onRange;
    this.data = null;
    this.zone = "UTC";
    this.drag = null;
    this.chart = svg("svg", { class: "chart", role: "img", preserveAspectRatio: "none" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.tip = h("div", { class: "chart-tip", hidden: true });
    this.note = h("p", { class: "chart-note" });
    this.chart.addEventListener("pointerdown", (event) => this.onDown(event));
    this.chart.addEventListener("pointermove", (event) => this.onMove(event));
    this.chart.addEventListener("pointerup", (event) => this.onUp(event));
    this.chart.addEventListener("pointercancel", () => this.cancel());
    this.chart.addEventListener("pointerleave", () => this.hideTip());
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
    this.place.replaceChildren(this.chart, this.axis, this.tip);
    this.draw();
  }

  /** Return the number of records in the bars. */
  get total() {
    return this.data ? this.data.slots.reduce((sum, slot) => sum + slot.total, 0) : 0;
  }

  get end() {
    return this.data.start + this.data.slots.length * this.data.slot_s;
  }

  draw() {
    if (!this.data) return;
    const width = this.chart.clientWidth || 600;
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
    this.chart.setAttribute("aria-label", this.description());
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
    this.axis.replaceChildren(...spans, h("span", { class: "scale" }, `max ${most.toLocaleString("en")} / ${duration(slot_s)}`));
  }

  description() {
    const { start, slot_s } = this.data;
    const sums = LEVELS.map(({ name, label }) => [label, this.data.slots.reduce((sum, slot) => sum + (slot[name] ?? 0), 0)]);
    const parts = sums.filter(([, count]) => count > 0).map(([label, count]) => `${count} ${label}`);
    return `Records from ${dateTime(start, this.zone)} to ${dateTime(this.end, this.zone)} in slots of ${duration(slot_s)}: ${parts.join(", ") || "none"}`;
  }

  slotAt(event) {
    const box = this.chart.getBoundingClientRect();
    const part = Math.max(0, Math.min(0.999999, (event.clientX - box.left) / box.width));
    return Math.floor(part * this.data.slots.length);
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.drag = { from: this.slotAt(event), to: this.slotAt(event) };
    this.chart.setPointerCapture(event.pointerId);
    this.drawBrush();
  }

  onMove(event) {
    if (this.drag) {
      this.drag.to = this.slotAt(event);
      this.drawBrush();
    }
    this.showTip(event);
  }

  onUp() {
    if (!this.drag) return;
    const { start, slot_s } = this.data;
    const first = Math.min(this.drag.from, this.drag.to);
    const last = Math.max(this.drag.from, this.drag.to);
    this.cancel();
    this.onRange(start + first * slot_s, start + (last + 1) * slot_s);
  }

  cancel() {
    this.drag = null;
    this.brush.setAttribute("visibility", "hidden");
  }

  drawBrush() {
    const step = this.chart.clientWidth / this.data.slots.length;
    const first = Math.min(this.drag.from, this.drag.to);
    const last = Math.max(this.drag.from, this.drag.to);
    this.brush.setAttribute("x", first * step);
    this.brush.setAttribute("width", (last - first + 1) * step);
    this.brush.setAttribute("visibility", "visible");
  }

  showTip(event) {
    const number = this.slotAt(event);
    const { start, slot_s, slots } = this.data;
    const slot = slots[number];
    const counts = LEVELS.filter(({ name }) => slot[name]).map(({ name, label }) =>
      h("p", {}, h("span", { class: `level ${name}` }, label), h("span", {}, slot[name].toLocaleString("en"))),
    );
    this.tip.replaceChildren(h("p", {}, `${dateTime(start + number * slot_s, this.zone)} + ${duration(slot_s)}`), ...counts);
    this.tip.hidden = false;
    const step = this.chart.clientWidth / slots.length;
    const left = this.chart.offsetLeft + (number + 1) * step + 8;
    const isRight = left + this.tip.offsetWidth < this.place.clientWidth;
    this.tip.style.left = `${isRight ? left : left - step - 16 - this.tip.offsetWidth}px`;
    this.hover.setAttribute("x", number * step);
    this.hover.setAttribute("visibility", "visible");
  }

  hideTip() {
    this.tip.hidden = true;
    this.hover?.setAttribute("visibility", "hidden");
  }
}
