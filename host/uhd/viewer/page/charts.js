// Charts on canvases: pictures a second, stages of each picture, scores.

import { prepare } from "./dom.js";
import { STAGES } from "./history.js";

const FONT = "11px system-ui, sans-serif";
export const BINS = 25;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--ink"),
    muted: read("--muted"),
    line: read("--line"),
    accent: read("--accent"),
    stages: [1, 2, 3, 4].map((n) => read(`--stage-${n}`)),
  };
}

/** A round number above the value. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value);
}

export class Charts {
  constructor(fps, latency, histogram) {
    this.canvases = { fps, latency, histogram };
    this.refresh();
    document.addEventListener("themechange", () => this.refresh());
  }

  refresh() { this.colours = colours(); }

  /** `ring` of pictures a second, one value a second. */
  fps(ring) {
    const [context, width, height] = prepare(this.canvases.fps);
    const top = ceiling(Math.max(1, ...Array.from({ length: ring.length }, (_, i) => ring.at(i))) * 1.05);
    const step = width / (ring.values.length - 1);
    const left = width - (ring.length - 1) * step;
    base(context, width, height, this.colours.line);
    context.beginPath();
    for (let i = 0; i < ring.length; i += 1) {
      context.lineTo(left + i * step, height - 1 - (ring.at(i) / top) * (height - 18));
    }
    context.strokeStyle = this.colours.accent;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.stroke();
    text(context, `${top} /s, last minute`, 0, 11, this.colours.muted);
  }

  /** Stacked bars, one a picture; `shown` names the stages that count. */
  latency(timings, shown) {
    const [context, width, height] = prepare(this.canvases.latency);
    const size = timings.sum.values.length;
    const { length } = timings.sum;
    let most = 0;
    for (let i = 0; i < length; i += 1) {
      let sum = 0;
      for (const name of STAGES) if (shown.has(name)) sum += timings.stages[name].at(i);
      most = Math.max(most, sum);
    }
    const top = ceiling(most);
    const step = width / size;
    const scale = (height - 16) / top;
    STAGES.forEach((name, stage) => {
      if (!shown.has(name)) return;
      context.fillStyle = this.colours.stages[stage];
      for (let i = 0; i < length; i += 1) {
        let below = 0;
        for (const lower of STAGES.slice(0, stage)) if (shown.has(lower)) below += timings.stages[lower].at(i);
        const high = timings.stages[name].at(i) * scale;
        const x = Math.round((size - length + i) * step);
        const next = Math.round((size - length + i + 1) * step);
        context.fillRect(x, height - below * scale - high, next - x, high);
      }
    });
    base(context, width, height, this.colours.line);
    if (length) rule(context, width, 15.5, this.colours.line);
    text(context, length ? `${top} ms` : "no timing", 0, 11, this.colours.muted);
  }

  /** `bins`: how many boxes per score; `threshold` 0..1 or null. */
  histogram(bins, threshold) {
    const [context, width, height] = prepare(this.canvases.histogram);
    const inset = 8; // the middle of a slider's knob at its ends, so that chart and slider share their axis
    const wide = width - 2 * inset;
    const bottom = height - 16;
    const most = Math.max(...bins);
    context.fillStyle = this.colours.accent;
    bins.forEach((value, i) => {
      if (!value) return;
      const high = Math.max(1, (value / most) * (bottom - 16));
      context.fillRect(inset + (i / BINS) * wide + 0.5, bottom - high, wide / BINS - 1, high);
    });
    base(context, width, bottom, this.colours.line);
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      const label = String(tick);
      const x = inset + tick * wide - context.measureText(label).width / 2;
      text(context, label, Math.min(Math.max(x, 0), width - 8), height - 3, this.colours.muted);
    }
    if (threshold === null) return;
    const x = inset + threshold * wide;
    context.fillStyle = this.colours.ink;
    context.fillRect(Math.round(x) - 1, 0, 2, bottom);
    const label = `threshold ${threshold.toFixed(2)}`;
    context.font = FONT;
    const room = context.measureText(label).width + 6;
    text(context, label, x + room + 6 > width ? x - room : x + 6, 10, this.colours.ink);
  }
}

function base(context, width, height, colour) { rule(context, width, height - 0.5, colour); }

function rule(context, width, y, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(width, y);
  context.stroke();
}

function text(context, words, x, y, colour) {
  context.font = FONT;
  context.fillStyle = colour;
  context.fillText(words, x, y);
}

/** Scores of the last boxes, counted in BINS bins. */
export class Scores {
  constructor(ring) { this.ring = ring; }

  bins() {
    const bins = new Array(BINS).fill(0);
    for (let i = 0; i < this.ring.length; i += 1) {
      bins[Math.min(BINS - 1, Math.max(0, Math.floor(this.ring.at(i) * BINS)))] += 1;
    }
    return bins;
  }
}
