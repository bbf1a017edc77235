/**
 * Receives records as they arrive, each once, over breaks of the connection.
 *
 * Does not know what is shown.
 */

import { address } from "./api.js";
import { parse } from "./json.js";

const RETRY_MS = 1000;
const MOST_RETRY_MS = 10000;

/**
 * A stream of the records that match a query.
 *
 * After a break it goes on behind the last event that arrived; the first one, which comes at once, says where the stream
 * begins. `onBatch` gets the records that arrived since the last frame was painted; `onGap` a sentence about records that
 * cannot be shown; `onStart` the store that the stream is of, with its filter in words; `onWrong` what is wrong with the
 * query, {message, column}: the stream then stays closed.
 */
export class Stream {
  constructor({ onBatch, onRate, onState, onGap, onStart, onWrong }) {
    this.onBatch = onBatch;
    this.onRate = onRate;
    this.onState = onState;
    this.onGap = onGap;
    this.onStart = onStart;
    this.onWrong = onWrong;
    this.source = null;
    this.last = "";
    this.batch = [];
    this.timer = 0;
    this.retry_ms = RETRY_MS;
    this.painting = 0;
  }

  /** Follow a query from now on: {q, store, tz}. */
  follow(asked) {
    this.stop();
    this.asked = asked;
    this.last = "";
    this.batch = [];
    this.connect();
  }

  /** Go on behind the last record. */
  resume() {
    if (this.source === null) this.connect();
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  connect() {
    this.stop();
    const source = (this.source = new EventSource(address("/tail", { ...this.asked, after: this.last })));
    source.addEventListener("open", () => {
      this.retry_ms = RETRY_MS;
      this.onState("live", "");
    });
    const listen = (name, take) => source.addEventListener(name, (event) => {
      this.last = event.lastEventId || this.last;
      take(event);
    });
    listen("start", (event) => this.onStart(parse(event.data)));
    listen("record", (event) => this.take(event));
    listen("rate", (event) => this.onRate(parse(event.data)));
    listen("gap", (event) => this.onGap(parse(event.data).message));
    source.addEventListener("error", () => this.reconnect(source.readyState === EventSource.CLOSED));
  }

  /** Try again later. The browser's own repetition gives up after an answer that is an error, so it is not used. */
  reconnect(isRefused) {
    this.stop();
    this.onState("broken", "");
    if (isRefused) this.explain();
    this.timer = setTimeout(() => this.connect(), this.retry_ms);
    this.retry_ms = Math.min(MOST_RETRY_MS, this.retry_ms * 2);
  }

  /** Ask why the stream was refused, which an EventSource does not tell. */
  async explain() {
    const asking = new AbortController();
    try {
      const answer = await fetch(address("/tail", { ...this.asked, after: this.last }), { signal: asking.signal });
      if (!answer.ok && this.source === null) this.refuse((await answer.json()).error);
    } catch {
      // The server is away, as the state says already.
    }
    asking.abort();
  }

  refuse(error) {
    if (error.parameter !== "q") return this.onState("broken", error.message);
    this.stop();
    return this.onWrong(error);
  }

  take(event) {
    this.batch.push(event.data);
    this.painting ||= requestAnimationFrame(() => this.deliver());
  }

  deliver() {
    this.painting = 0;
    const batch = this.batch;
    this.batch = [];
    this.onBatch(batch);
  }
}
