// Sliders, buttons and the player of recordings. The device decides: what is shown is what it confirmed.

import { byId, clock, setText } from "./dom.js";

const SEND_EVERY_MS = 120;
const GIVE_UP_MS = 4000;

/** Calls `action` with the newest value at most every SEND_EVERY_MS, and always with the last one. */
function throttled(action) {
  let timer = 0;
  let last = 0;
  let newest;
  return (value) => {
    newest = value;
    if (timer) return;
    const wait = Math.max(0, last + SEND_EVERY_MS - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      action(newest);
    }, wait);
  };
}

/** A slider for one number of the configuration. */
export class ConfigSlider {
  constructor(id, field, send) {
    this.input = byId(id);
    this.output = byId(`${id}-value`);
    this.field = field;
    this.confirmed = null;
    this.asked = null;
    this.giveUp = 0;
    const ask = throttled((value) => {
      if (!send({ do: "configure", [field]: value })) this.refuse();
    });
    this.input.addEventListener("input", () => {
      this.asked = this.input.valueAsNumber;
      this.show();
      clearTimeout(this.giveUp);
      this.giveUp = setTimeout(() => this.refuse(), GIVE_UP_MS);
      ask(this.asked);
    });
  }

  /** The device's confirmation. `fixed`: nobody can change it, as in a recording. */
  confirm(config, fixed) {
    this.confirmed = config[this.field];
    this.input.disabled = fixed;
    // Scores are sent as 1/65535, so the answer is near to what was asked, not equal.
    if (this.asked !== null && Math.abs(this.asked - this.confirmed) < 1e-3) this.asked = null;
    if (this.asked === null) clearTimeout(this.giveUp);
    this.show();
  }

  /** Go back to what the device has. */
  refuse() {
    clearTimeout(this.giveUp);
    this.asked = null;
    this.show();
  }

  change(by) {
    if (this.input.disabled) return;
    this.input.valueAsNumber = (this.asked ?? this.confirmed) + by;
    this.input.dispatchEvent(new Event("input"));
  }

  show() {
    const waiting = this.asked !== null;
    if (!waiting && this.confirmed !== null) this.input.value = String(this.confirmed);
    const value = this.confirmed === null ? "–" : this.confirmed.toFixed(2);
    setText(this.output, waiting ? `${value} → ${this.asked.toFixed(2)}` : value);
    this.output.classList.toggle("asked", waiting);
  }
}

/** Pause and step. A source that cannot pause (a camera) goes on; then this page alone stands still. */
export class Pause {
  constructor(send) {
    this.send = send;
    this.paused = false;
    this.wanted = 0; // pictures to show although paused
    byId("step").addEventListener("click", () => this.step());
  }

  /** Whether a picture that arrives is to be shown. */
  takes() {
    if (!this.paused) return true;
    if (this.wanted === 0) return false;
    this.wanted -= 1;
    return true;
  }

  set(paused, tell = true) {
    if (tell) this.send({ do: "pause", on: paused });
    this.paused = paused;
    this.wanted = 0;
    setText(byId("pause").firstElementChild, paused ? "Play" : "Pause");
    byId("pause").classList.toggle("on", paused);
    byId("step").disabled = !paused;
  }

  /** The source does not do what was asked last. */
  refuse() { this.wanted = 0; }

  step() {
    if (!this.paused) return;
    this.wanted = 1;
    this.send({ do: "step" });
  }
}

/** Position and speed of a recording. */
export class Player {
  constructor(send, pause) {
    this.box = byId("player");
    this.seek = byId("seek");
    this.speed = byId("speed");
    this.pause = pause;
    this.length = 0;
    this.dragging = false;
    this.send = throttled((t) => {
      pause.wanted = 1; // the picture there is shown even while paused
      send({ do: "seek", t });
    });
    this.seek.addEventListener("input", () => {
      this.dragging = true;
      this.at(this.seek.valueAsNumber);
      this.send(this.seek.valueAsNumber);
    });
    this.seek.addEventListener("change", () => { this.dragging = false; });
    this.speed.addEventListener("change", () => send({ do: "speed", factor: Number(this.speed.value) }));
  }

  get isRecording() { return !this.box.hidden; }

  timeline({ t, length, playing, speed }) {
    this.box.hidden = false;
    this.length = length;
    this.seek.max = String(length);
    if ([...this.speed.options].some((option) => Number(option.value) === speed)) this.speed.value = String(speed);
    if (playing === this.pause.paused) this.pause.set(!playing, false);
    this.at(t);
  }

  /** Show a position without asking for it. */
  at(t) {
    if (!this.isRecording) return;
    if (!this.dragging) this.seek.value = String(t);
    this.seek.setAttribute("aria-valuetext", `${clock(t)} of ${clock(this.length)}`);
    setText(byId("position"), `${clock(t)} / ${clock(this.length)}`);
  }

  move(seconds) {
    if (!this.isRecording) return;
    this.seek.valueAsNumber += seconds;
    this.seek.dispatchEvent(new Event("input"));
    this.seek.dispatchEvent(new Event("change"));
  }
}
