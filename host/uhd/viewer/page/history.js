// What was shown, in memory of fixed size: nothing here grows with the time the page is open.

export const STAGES = ["receive", "preprocess", "inference", "decode"];

/** The newest `size` numbers, oldest first when read. */
export class Ring {
  constructor(size) {
    this.values = new Float64Array(size);
    this.total = 0;
  }

  get length() { return Math.min(this.total, this.values.length); }

  push(value) {
    this.values[this.total % this.values.length] = value;
    this.total += 1;
  }

  /** The i-th of the stored values, 0 the oldest. */
  at(i) { return this.values[(this.total - this.length + i) % this.values.length]; }

  last() { return this.length ? this.at(this.length - 1) : NaN; }

  clear() { this.total = 0; }

  /** { min, median, max }, or null while empty. */
  summary() {
    if (!this.length) return null;
    const sorted = this.values.slice(0, this.length).sort();
    const half = sorted.length >> 1;
    const median = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    return { min: sorted[0], median, max: sorted[sorted.length - 1] };
  }
}

/** Milliseconds of every stage of the last pictures. */
export class Timings {
  constructor(size = 240) {
    this.stages = Object.fromEntries(STAGES.map((name) => [name, new Ring(size)]));
    this.sum = new Ring(size);
  }

  push(timing, source) {
    const ms = Object.fromEntries(STAGES.map((name) => [name, (timing[`${name}_us`] ?? 0) / 1000]));
    // A picture that comes over the link in pieces is preprocessed piece by piece, within the time of receiving it.
    if (source === "host") ms.receive = Math.max(0, ms.receive - ms.preprocess);
    let sum = 0;
    for (const name of STAGES) {
      this.stages[name].push(ms[name]);
      sum += ms[name];
    }
    this.sum.push(sum);
  }

  clear() {
    for (const name of STAGES) this.stages[name].clear();
    this.sum.clear();
  }
}

const BOX_FIELDS = 6;

/** Pictures with their boxes for the export: the newest `pictures` pictures and `boxes` boxes. */
export class Log {
  constructor(pictures = 50_000, boxes = 200_000) {
    this.boxes = new Float32Array(boxes * BOX_FIELDS);
    this.capacity = boxes;
    this.ids = new Float64Array(pictures);
    this.times = new Float64Array(pictures);
    this.firsts = new Float64Array(pictures); // number of the picture's first box, counted from the last clear
    this.counts = new Uint16Array(pictures);
    this.photos = new Map(); // slot -> name of the photo
    this.clear();
  }

  clear() {
    this.pictureTotal = 0;
    this.boxTotal = 0;
    this.width = this.height = 0;
    this.photos.clear();
  }

  push(event, width, height) {
    const slot = this.pictureTotal % this.ids.length;
    const boxes = event.boxes ?? [];
    this.ids[slot] = event.frame_id;
    this.times[slot] = event.t;
    this.firsts[slot] = this.boxTotal;
    this.counts[slot] = boxes.length;
    if (event.photo) this.photos.set(slot, [event.photo, width, height]);
    else this.photos.delete(slot);
    if (width) [this.width, this.height] = [width, height];
    for (const box of boxes) {
      this.boxes.set(box.slice(0, BOX_FIELDS), (this.boxTotal % this.capacity) * BOX_FIELDS);
      this.boxTotal += 1;
    }
    this.pictureTotal += 1;
  }

  /** Pictures that are still kept, oldest first: { frame_id, t, photo, size, boxes }. */
  * entries() {
    const kept = Math.min(this.pictureTotal, this.ids.length);
    for (let n = this.pictureTotal - kept; n < this.pictureTotal; n += 1) {
      const slot = n % this.ids.length;
      if (this.firsts[slot] < this.boxTotal - this.capacity) continue;
      const boxes = [];
      for (let i = 0; i < this.counts[slot]; i += 1) {
        const at = ((this.firsts[slot] + i) % this.capacity) * BOX_FIELDS;
        boxes.push(Array.from(this.boxes.subarray(at, at + BOX_FIELDS)));
      }
      const [photo, width, height] = this.photos.get(slot) ?? [null, this.width, this.height];
      yield { frame_id: this.ids[slot], t: this.times[slot], photo, width, height, boxes };
    }
  }
}
