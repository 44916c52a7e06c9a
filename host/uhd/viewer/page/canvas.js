// The picture with its boxes. Only the newest picture is decoded and drawn.

import { prepare } from "./dom.js";

const BOX = "#2fe6d2"; // the same in both themes: it lies on the picture, not on the page
const TRUTH = "#ffffff";
const HALO = "rgb(0 0 0 / 60%)";
const FONT = '600 12px system-ui, -apple-system, "Segoe UI", sans-serif';

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8ClampedArray(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export class PictureView {
  constructor(canvas) {
    this.canvas = canvas;
    this.pixels = document.createElement("canvas"); // the picture in its own size
    this.width = 0;
    this.height = 0;
  }

  /** Take the picture of an event. Resolves to whether `pixels` changed; a JPEG that is late is dropped. */
  async decode(event) {
    const { image } = event;
    if (!image) return false;
    try {
      if (image.format === "rgb") this.#fromRgb(image);
      else if (image.format === "jpeg") await this.#fromJpeg(image);
      else return false;
    } catch {
      return false; // not a picture: the boxes are shown without it
    }
    return true;
  }

  #resize(width, height) {
    if (width === this.width && height === this.height) return;
    this.pixels.width = this.width = width;
    this.pixels.height = this.height = height;
    this.canvas.style.setProperty("--ratio", String(width / height));
    this.image = null;
  }

  #fromRgb({ width, height, data }) {
    const rgb = bytesOf(data);
    if (rgb.length !== width * height * 3) throw new Error("size");
    this.#resize(width, height);
    const context = this.pixels.getContext("2d");
    this.image ??= context.createImageData(width, height);
    const rgba = this.image.data;
    for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
      rgba[to] = rgb[from];
      rgba[to + 1] = rgb[from + 1];
      rgba[to + 2] = rgb[from + 2];
      rgba[to + 3] = 255;
    }
    context.putImageData(this.image, 0, 0);
  }

  async #fromJpeg({ data }) {
    const bitmap = await createImageBitmap(new Blob([bytesOf(data)], { type: "image/jpeg" }));
    this.#resize(bitmap.width, bitmap.height);
    this.pixels.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }

  /** Draw the picture and the boxes of an event. `marked`: index of the box to stress, or -1. */
  draw(event, names, { truth = true, marked = -1 } = {}) {
    const [context, width, height] = prepare(this.canvas);
    this.#paint(context, width, height, event, names, truth, marked);
  }

  /** The picture with its boxes as a PNG blob, at least 640 pixels wide. */
  snapshot(event, names, { truth = true } = {}) {
    const factor = this.width ? Math.max(1, Math.ceil(640 / this.width)) : 10;
    const canvas = document.createElement("canvas");
    canvas.width = (this.width || 64) * factor;
    canvas.height = (this.height || 64) * factor;
    this.#paint(canvas.getContext("2d"), canvas.width, canvas.height, event, names, truth, -1);
    return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  }

  #paint(context, width, height, event, names, truth, marked) {
    context.fillStyle = "#05080a";
    context.fillRect(0, 0, width, height);
    if (this.width) {
      context.imageSmoothingEnabled = width < this.width * 2; // enlarged pixels stay crisp
      context.drawImage(this.pixels, 0, 0, width, height);
    }
    if (!event) return;
    if (truth) {
      for (const [, cx, cy, w, h] of event.truth ?? []) {
        frame(context, (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height, TRUTH, 1.5, [6, 4]);
      }
    }
    const boxes = event.boxes ?? [];
    for (let i = boxes.length - 1; i >= 0; i -= 1) { // the best on top
      const [, , cx, cy, w, h] = boxes[i];
      const thick = i === marked ? 4 : 2;
      frame(context, (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height, BOX, thick, []);
    }
    for (let i = boxes.length - 1; i >= 0; i -= 1) label(context, width, height, boxes[i], names);
  }
}

function frame(context, x, y, w, h, colour, thick, dash) {
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.lineWidth = thick + 2;
  context.strokeStyle = HALO;
  context.strokeRect(x, y, w, h);
  context.lineWidth = thick;
  context.strokeStyle = colour;
  context.strokeRect(x, y, w, h);
  context.setLineDash([]);
}

function label(context, width, height, [score, cls, cx, cy, w, h], names) {
  const text = `${names[cls] ?? `class ${cls}`} ${score.toFixed(2)}`;
  context.font = FONT;
  const wide = context.measureText(text).width + 8;
  const left = Math.min(Math.max((cx - w / 2) * width - 1, 0), Math.max(width - wide, 0));
  const above = (cy - h / 2) * height - 19;
  const top = Math.min(above >= 0 ? above : (cy - h / 2) * height + 3, height - 18);
  context.fillStyle = BOX;
  context.fillRect(left, Math.max(top, 0), wide, 18);
  context.fillStyle = "#04211f";
  context.fillText(text, left + 4, Math.max(top, 0) + 13);
}
