/**
 * Lets the reader choose a range of slots of a chart: by a drag, by a click, or by keys.
 *
 * Does not know what the slots show, or what is done with a range.
 */

const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };

/** The chosen range. It is [first, last] in slots from 0; null without one. */
export class Brush {
  /**
   * @param {HTMLElement} box the element around the chart, which takes the focus
   * @param {Object} actions count() of the slots; draw(range); point(slot, isByKey) at a slot, null at none; choose(first,
   *   last); chosen(range) says a range that keys have changed, null once it is given up
   */
  constructor(box, actions) {
    this.box = box;
    this.actions = actions;
    this.reset();
    box.addEventListener("pointerdown", (event) => this.onDown(event));
    box.addEventListener("pointermove", (event) => this.onMove(event));
    box.addEventListener("pointerup", () => this.onUp());
    box.addEventListener("pointercancel", () => this.cancel());
    box.addEventListener("pointerleave", () => this.actions.point(null));
    box.addEventListener("keydown", (event) => this.onKey(event));
    box.addEventListener("focus", () => this.onFocus());
    box.addEventListener("blur", () => this.onBlur());
  }

  /** Forget range and place, because the slots are others. */
  reset() {
    this.drag = null;
    this.at = null;
    this.anchor = null;
  }

  /** The slot where the keys are: at first the last one. */
  get place() {
    return Math.min(this.at ?? Infinity, this.actions.count() - 1);
  }

  get range() {
    if (this.drag) return ordered(this.drag.from, this.drag.to);
    return this.anchor === null ? null : ordered(this.anchor, this.place);
  }

  slotAt(event) {
    const area = this.box.getBoundingClientRect();
    const part = Math.max(0, Math.min(0.999999, (event.clientX - area.left) / area.width));
    return Math.floor(part * this.actions.count());
  }

  onDown(event) {
    if (event.button !== 0) return;
    const slot = this.slotAt(event);
    this.drag = { from: slot, to: slot };
    this.box.setPointerCapture(event.pointerId);
    this.actions.draw(this.range);
  }

  onMove(event) {
    const slot = this.slotAt(event);
    if (this.drag) {
      this.drag.to = slot;
      this.actions.draw(this.range);
    }
    this.actions.point(slot);
  }

  onUp() {
    if (!this.drag) return;
    const range = this.range;
    this.cancel();
    this.actions.choose(...range);
  }

  cancel() {
    this.drag = null;
    this.anchor = null;
    this.actions.draw(null);
  }

  onFocus() {
    if (this.box.matches(":focus-visible")) this.actions.point(this.place, true);
  }

  onBlur() {
    this.cancel();
    this.actions.point(null);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step !== undefined) this.move(step, event.shiftKey);
    else if (event.key === "Enter") this.take();
    else if (event.key === "Escape" && this.anchor !== null) this.giveUp();
    else return;
    event.preventDefault();
  }

  move(step, isSelecting) {
    const from = this.place;
    const hadRange = this.anchor !== null;
    this.anchor = isSelecting ? (this.anchor ?? from) : null;
    this.at = Math.max(0, Math.min(this.actions.count() - 1, from + step));
    this.actions.draw(this.range);
    this.actions.point(this.at, true);
    if (isSelecting || hadRange) this.actions.chosen(this.range);
  }

  take() {
    const [first, last] = this.range ?? [this.place, this.place];
    this.cancel();
    this.actions.choose(first, last);
  }

  giveUp() {
    this.cancel();
    this.actions.chosen(null);
  }
}

function ordered(one, other) {
  return [Math.min(one, other), Math.max(one, other)];
}
