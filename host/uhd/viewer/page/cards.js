// What the device is, what it measured, counts and suffers from.

import { byId, count, element, fillList, setText, toast } from "./dom.js";

const FIRST_FAULT = 32;
const bytes = (value) => `${count(value)} B`;
const words = (name) => name.replaceAll("_", " ");

function hashButton(hash) {
  const button = element("button", hash ? `${hash.slice(0, 12)}…` : "–");
  button.type = "button";
  button.title = `${hash}\nClick to copy`;
  button.setAttribute("aria-label", `Copy the model's hash, ${hash}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(hash);
      toast("Copied the hash.");
    } catch {
      toast(`Copying is not allowed here. The hash: ${hash}`, 20);
    }
  });
  return button;
}

export function showDevice(device) {
  byId("device-empty").hidden = Boolean(device);
  setText(byId("model-name"), device?.name ?? "");
  if (!device) return;
  document.title = `${device.name} – UHD viewer`;
  const { input, camera } = device;
  fillList(byId("device"), [
    ["Model", device.name],
    ["Variant", device.variant],
    ["Hash of the .espdl", hashButton(device.model_hash)],
    ["Target, backend", `${device.target}, ${device.backend}`],
    ["Input", `${input.height} × ${input.width} × ${input.channels}`],
    ...(device.resize_mode ? [["Resize mode", device.resize_mode]] : []),
    ["Camera", camera ? `${camera.width} × ${camera.height} ${camera.format}` : "none"],
    ["Classes", classes(device.class_names)],
    ["Own thresholds", `score ${device.score_threshold.toFixed(2)}, NMS ${device.nms_iou.toFixed(2)}`],
    ["Weights", bytes(device.espdl_size)],
    ["Activations", bytes(device.arena_size)],
    ["Protocol version", device.protocol_version],
    ["Last restart", words(device.reset_reason).toLowerCase()],
  ]);
  showAccuracy(device.accuracy ?? []);
}

function classes(names) {
  const shown = names.slice(0, 4).join(", ");
  return names.length > 4 ? `${shown} and ${names.length - 4} more` : shown;
}

function showAccuracy(rows) {
  byId("accuracy-box").hidden = rows.length === 0;
  if (!rows.length) return;
  const data = new Set(rows.map(measuredOn));
  const same = data.size === 1;
  setText(byId("accuracy-caption"), same ? `Measured mAP (${[...data][0]})` : "Measured mAP");
  byId("accuracy").replaceChildren(...rows.map((row) => {
    const line = element("tr");
    const name = element("th", row.engine);
    name.scope = "row";
    if (!same) name.append(element("small", measuredOn(row)));
    line.append(name, element("td", score(row.map50)), element("td", score(row.map50_95)));
    return line;
  }));
}

function measuredOn({ data, images }) {
  const told = !images || String(data).includes(String(images));
  return told ? String(data) : `${count(images)} images, ${data}`;
}

const score = (value) => (typeof value === "number" ? value.toFixed(3) : "–");

/** Counters that stay 0 while all is well. A camera that is faster than the model drops pictures: that is well. */
const TROUBLE = /^(?!camera_dropped).*(lost|error|malformed|overlong|unknown|dropped|stale|restarts|retries)/;

export function showStats(stats) {
  const row = ([name, value]) => [words(name), count(value), value > 0 && TROUBLE.test(name) ? "bad" : ""];
  const page = ["dropped for this page", stats.dropped];
  fillList(byId("host-counters"), [...Object.entries(stats.host).map(row), [page[0], count(page[1])]]);
  const device = Object.entries(stats.device).filter(([name]) => name !== "faults" && !name.startsWith("reserved"));
  fillList(byId("device-counters"), device.map(([name, value]) => (
    name === "uptime_us" ? ["uptime", `${count(Math.floor(value / 1e6))} s`] : row([name, value])
  )));
}

const unnamed = (code) => `FAULT_${code}`;

/** The faults of a session: those that stand, and those that are over. */
export class Faults {
  constructor() {
    this.known = {};
    this.reset();
  }

  reset() {
    this.list = new Map(); // code -> { name, text, stands }
    this.unplaced = []; // names whose numbers are not known yet
    this.draw();
  }

  /** `known`: number -> { name, meaning }, for faults told by number. What was told in the meantime stays. */
  know(known) {
    this.known = known;
    for (const [code, fault] of this.list) {
      if (fault.name === unnamed(code)) fault.name = known[code]?.name ?? fault.name;
      fault.text ||= this.#meaning(code);
    }
    const early = this.unplaced;
    this.unplaced = [];
    this.names(early.filter((name) => ![...this.list.values()].some((fault) => fault.name === name)));
  }

  event({ code, name, text, stands }) {
    const before = this.list.get(code);
    this.list.set(code, { name, text: text || before?.text || this.#meaning(code), stands });
    this.draw();
  }

  /** `names` as the device lists them in its answer to HELLO. */
  names(names) {
    const codes = new Map(Object.entries(this.known).map(([code, { name }]) => [name, Number(code)]));
    for (const name of names) {
      const code = codes.get(name);
      if (code === undefined) this.unplaced.push(name);
      else if (!this.list.get(code)?.stands) this.#set(code, true);
    }
    this.draw();
  }

  /** The mask of STATS: bit n is code 32 + n. */
  mask(mask) {
    if (!Number.isInteger(mask)) return;
    for (let bit = 0; bit < 32; bit += 1) {
      const stands = Boolean((mask >>> bit) & 1);
      if (stands !== Boolean(this.list.get(FIRST_FAULT + bit)?.stands)) this.#set(FIRST_FAULT + bit, stands);
    }
    this.draw();
  }

  #meaning(code) { return this.known[code]?.meaning ?? ""; }

  #set(code, stands) {
    const before = this.list.get(code);
    const name = before?.name ?? this.known[code]?.name ?? unnamed(code);
    this.list.set(code, { name, text: before?.text ?? this.#meaning(code), stands });
  }

  draw() {
    const entries = [...this.list].sort(([a, x], [b, y]) => Number(y.stands) - Number(x.stands) || a - b);
    const key = JSON.stringify(entries);
    if (key === this.drawn) return;
    this.drawn = key;
    byId("faults-empty").hidden = entries.length > 0;
    byId("faults-help").hidden = entries.length === 0;
    byId("faults").replaceChildren(...entries.map(([code, { name, text, stands }]) => {
      const item = element("li", "", stands ? "" : "over");
      item.append(element("b", `${code} ${name}`), stands ? "" : " (over)", element("span", text));
      return item;
    }));
  }
}

const CONSOLE_LINES = 200;

/** The device's console: the newest lines, following the end unless the user scrolled up. */
export class ConsoleView {
  constructor(node) {
    this.node = node;
    this.lines = [];
  }

  push(text) {
    this.lines.push(String(text).slice(0, 500));
    if (this.lines.length > CONSOLE_LINES) this.lines.shift();
    this.dirty = true;
  }

  draw() {
    if (!this.dirty) return;
    this.dirty = false;
    const { node } = this;
    const atEnd = node.scrollTop + node.clientHeight >= node.scrollHeight - 8;
    node.textContent = this.lines.join("\n");
    if (atEnd) node.scrollTop = node.scrollHeight;
  }
}
