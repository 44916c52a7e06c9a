// Small helpers. Text of devices goes into the page as text only, never as HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Change text only where it differs, so that readers of aria-live regions are not told twice. */
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

/** Fill a definition list; rows are [name, value, className?]. Value may be an element. */
export function fillList(list, rows) {
  const parts = [];
  for (const [name, value, className] of rows) {
    const dd = element("dd", "", className ?? "");
    dd.append(value instanceof Node ? value : String(value));
    parts.push(element("dt", name), dd);
  }
  list.replaceChildren(...parts);
}

let toastTimer = 0;

export function toast(text, seconds = 5) {
  const node = byId("toast");
  setText(node, text);
  node.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { node.hidden = true; }, seconds * 1000);
}

/** A canvas whose pixels are those of the screen: [context, width, height] in CSS pixels, cleared. */
export function prepare(canvas) {
  const scale = Math.min(globalThis.devicePixelRatio || 1, 3);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const wide = Math.max(1, Math.round(width * scale));
  const high = Math.max(1, Math.round(height * scale));
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const context = canvas.getContext("2d");
  context.setTransform(wide / Math.max(width, 1), 0, 0, high / Math.max(height, 1), 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export const count = (value) => Number(value).toLocaleString("en-GB");

/** "2 boxes", "1 box". */
export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
