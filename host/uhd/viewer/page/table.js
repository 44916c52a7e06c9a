// The last detections. Rows are made once and filled again, so that the page does not grow.

import { byId, element, setText } from "./dom.js";

const ROWS = 40;
const fixed = (value) => value.toFixed(2);

export class DetectionTable {
  /** @param onMark called with the index of a box of the newest picture that the pointer is on, or -1. */
  constructor(onMark) {
    this.body = byId("detections");
    this.empty = byId("detections-empty");
    this.last = []; // newest first: { frame, index, box }
    this.rows = [];
    this.body.addEventListener("pointerover", (event) => {
      const row = event.target.closest("tr");
      onMark(row?.classList.contains("now") ? Number(row.dataset.index) : -1);
    });
    this.body.addEventListener("pointerleave", () => onMark(-1));
  }

  push(event) {
    const boxes = event.boxes ?? [];
    const added = boxes.slice(0, ROWS).map((box, index) => ({ frame: event.frame_id, index, box, photo: event.photo }));
    this.last = [...added, ...this.last].slice(0, ROWS);
  }

  clear() { this.last = []; }

  draw(newest, names) {
    this.empty.hidden = this.last.length > 0;
    while (this.rows.length < this.last.length) this.#addRow();
    this.rows.forEach(({ row, cells }, i) => {
      const item = this.last[i];
      row.hidden = !item;
      if (!item) return;
      const [score, cls, cx, cy, w, h] = item.box;
      row.classList.toggle("now", item.frame === newest);
      row.dataset.index = String(item.index);
      const shown = [
        item.photo ?? `#${frameNumber(item.frame)}`,
        names[cls] ?? `class ${cls}`,
        fixed(score),
        `${fixed(cx)}, ${fixed(cy)}`,
        `${fixed(w)} × ${fixed(h)}`,
      ];
      shown.forEach((text, column) => setText(cells[column], text));
    });
  }

  #addRow() {
    const row = element("tr");
    const cells = [element("th"), ...Array.from({ length: 4 }, () => element("td"))];
    cells[0].scope = "row";
    row.append(...cells);
    this.body.append(row);
    this.rows.push({ row, cells });
  }
}

/** Pictures of a camera are counted from 1 in the upper half of the numbers. */
export const frameNumber = (id) => (id >= 2 ** 31 ? id - 2 ** 31 : id);
