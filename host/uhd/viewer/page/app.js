// Puts the parts together: events come in, the newest state is drawn once a frame.

import { describe, showState } from "./banner.js";
import { PictureView } from "./canvas.js";
import { ConsoleView, Faults, showDevice, showStats } from "./cards.js";
import { Charts, Scores } from "./charts.js";
import { ConfigSlider, Pause, Player } from "./controls.js";
import { byId, count, element, plural, setText, toast } from "./dom.js";
import { download, stamp, toCoco } from "./exports.js";
import { Log, Ring, STAGES, Timings } from "./history.js";
import { installKeys } from "./keys.js";
import { fetchSource, Link } from "./link.js";
import { DetectionTable, frameNumber } from "./table.js";

const SLOW_MS = 200; // charts and tables: people do not read faster
const STALE_MS = 2500;

const now = { connected: false, state: null, device: null, config: null, stats: null };
let newest = null; // the picture event that is shown
let pixelsOf = null; // frame_id of the picture whose pixels are shown: not every picture comes with pixels
let decoding = false;
let waiting = null; // a picture event that is not drawn yet
let pictureAt = -Infinity;
let pictureEvery = 0; // milliseconds between the last two
let recording = false;
let redraw = true;
let slowDirty = true;
let slowAt = 0;

const log = new Log();
const timings = new Timings();
const scoreRing = new Ring(2000);
const scores = new Scores(scoreRing);
const fpsRing = new Ring(60);
const drawnAt = new Ring(120);
const shownStages = new Set(STAGES);

const view = new PictureView(byId("picture"));
const charts = new Charts(byId("fps-chart"), byId("latency-chart"), byId("histogram"));
const link = new Link(onEvent, onConnection);
const send = (command) => link.send(command) || (toast("No connection to the host program."), false);
const sliders = [new ConfigSlider("threshold", "score_threshold", send), new ConfigSlider("nms", "nms_iou", send)];
const pause = new Pause(send);
const player = new Player(send, pause);
const faults = new Faults();
const consoleView = new ConsoleView(byId("console"));
let marked = -1;
const table = new DetectionTable((index) => {
  marked = index;
  redraw = true;
});
const names = () => now.device?.class_names ?? [];
const drawOptions = () => ({ truth: byId("truth").checked, marked });

// Events

const handlers = {
  state(event) {
    now.state = event;
    showAll();
    if (event.state === "ready" && !player.isRecording && !newest) setText(byId("frame-note"), "Waiting for a picture");
  },
  device(event) {
    if (now.device && now.device.model_hash !== event.model_hash) clearShown();
    now.device = event;
    showDevice(event);
    faults.names(event.faults ?? []);
    redraw = true;
  },
  config(event) {
    now.config = event;
    sliders.forEach((slider) => slider.confirm(event, player.isRecording));
    slowDirty = true;
  },
  picture(event) {
    const at = performance.now();
    pictureEvery = at - pictureAt;
    pictureAt = at;
    if (!pause.takes()) return;
    waiting = event;
    if (event.timing) timings.push(event.timing, event.source);
    for (const [score] of event.boxes) scoreRing.push(score);
    table.push(event);
    player.at(event.t);
    slowDirty = true;
  },
  stats(event) {
    now.stats = event;
    fpsRing.push(event.fps);
    showStats(event);
    faults.mask(event.device.faults);
    slowDirty = true;
  },
  fault(event) { faults.event(event); },
  console(event) {
    consoleView.push(event.text);
    slowDirty = true;
  },
  timeline(event) {
    if (!player.isRecording) { // what is recorded is done: nothing to ask a device for
      byId("record").disabled = true;
      byId("config-note").textContent = "Values as they were when this was recorded.";
    }
    player.timeline(event);
    if (now.config) sliders.forEach((slider) => slider.confirm(now.config, true));
    showAll();
  },
  recording(event) {
    if (event.on !== recording || event.text) toast(recordingText(event), 8);
    recording = event.on;
    byId("record").setAttribute("aria-pressed", String(recording));
    setText(byId("record"), recording ? "Recording" : "Record");
  },
  refused(event) {
    sliders.forEach((slider) => slider.refuse());
    pause.refuse();
    toast(event.text);
  },
};

function recordingText({ on, path, text }) {
  if (text) return text;
  return on ? `Recording to ${path}` : `Recorded ${path}`;
}

function onEvent(event) {
  try {
    handlers[event.kind]?.(event);
  } catch (error) {
    console.error(`${event.kind}:`, error); // one strange event must not stop the page
  }
}

async function onConnection(open) {
  now.connected = open;
  showAll();
  if (!open) {
    sliders.forEach((slider) => slider.refuse());
    return;
  }
  if (pause.paused) pause.set(false, false); // the host program may be another one now
  faults.reset(); // now, not after the answer below: faults may come before it
  try {
    const source = await fetchSource();
    setText(byId("source-text"), source.title);
    byId("source-text").title = `${source.title} (uhd ${source.version})`;
    faults.know(source.faults);
  } catch (error) {
    console.error(error);
  }
}

function showAll() {
  showState(now.connected, now.state, player.isRecording);
  redraw = true;
}

// Drawing

function frame(time) {
  requestAnimationFrame(frame);
  if (waiting && !decoding) drawNewest(time);
  else if (redraw) view.draw(newest, names(), drawOptions());
  redraw = false;
  if (time - slowAt >= SLOW_MS) {
    slowAt = time;
    drawSlow(time);
  }
}

async function drawNewest(time) {
  const event = waiting;
  waiting = null;
  decoding = true;
  if (await view.decode(event)) pixelsOf = event.frame_id;
  decoding = false;
  newest = event;
  log.push(event, view.width, view.height);
  drawnAt.push(time);
  view.draw(event, names(), drawOptions());
}

function drawSlow(time) {
  const age = performance.now() - pictureAt;
  const stale = isStale(age);
  byId("frame").classList.toggle("stale", stale);
  showNote(age, stale);
  setText(byId("caption-shown"), newest && !pause.paused && !stale ? `shown ${shownRate(time).toFixed(0)}/s` : "");
  if (!slowDirty) return;
  slowDirty = false;
  showCaption();
  table.draw(newest?.frame_id, names());
  showStages();
  charts.fps(fpsRing);
  charts.latency(timings, shownStages);
  charts.histogram(scores.bins(), now.config?.score_threshold ?? null);
  consoleView.draw();
}

/** Whether the picture is not what the device sees now. A slow link may take seconds for each. */
function isStale(age) {
  if (!newest || pause.paused) return false;
  if (!now.connected || now.state?.state !== "ended") {
    const { level } = describe(now.connected, now.state, player.isRecording);
    return level !== "ok" || age > Math.max(STALE_MS, 3 * pictureEvery);
  }
  return false;
}

/** Pictures drawn a second, over the last two seconds. */
function shownRate(time) {
  let drawn = 0;
  for (let i = drawnAt.length - 1; i >= 0 && time - drawnAt.at(i) < 2000; i -= 1) drawn += 1;
  return drawn / 2;
}

function showNote(age, stale) {
  let note = "";
  if (!newest) note = now.state?.state === "ready" ? "Waiting for a picture" : "No picture yet";
  else if (now.connected && now.state?.state === "ended") note = "Ended";
  else if (pause.paused) note = "Paused";
  else if (stale) note = `Last picture, ${Math.round(age / 1000)} s ago`;
  else if (pixelsOf === null) note = "No pixels: boxes only";
  else if (pixelsOf !== newest.frame_id) note = `Pixels of picture ${count(frameNumber(pixelsOf))}`;
  byId("frame-note").hidden = !note;
  setText(byId("frame-note"), note);
}

function showCaption() {
  byId("truth-label").hidden = !newest?.truth;
  setText(byId("kept"), `${plural(Math.min(log.pictureTotal, log.ids.length), "picture", "pictures")} with `
    + `${plural(Math.min(log.boxTotal, log.capacity), "box", "boxes")} kept for the export`);
  if (!newest) return;
  const boxes = newest.boxes;
  const name = newest.photo ?? `picture ${count(frameNumber(newest.frame_id))}`;
  const best = boxes.length ? `, best ${names()[boxes[0][1]] ?? `class ${boxes[0][1]}`} ${boxes[0][0].toFixed(2)}` : "";
  const found = `${plural(boxes.length, "box", "boxes")} of ${plural(newest.candidates, "candidate", "candidates")}`;
  setText(byId("caption-picture"), view.width ? `${name}, ${view.width} × ${view.height}` : name);
  setText(byId("caption-boxes"), found);
  byId("picture").setAttribute("aria-label", `${name}: ${found}${best}`);
}

function showStages() {
  const fps = fpsRing.last();
  setText(byId("fps"), Number.isNaN(fps) ? "–" : fps.toFixed(1));
  const whole = timings.sum.summary();
  setText(byId("latency"), whole ? ms(whole.median) : "–");
  [...STAGES, "sum"].forEach((name, row) => {
    const summary = (name === "sum" ? timings.sum : timings.stages[name]).summary();
    const cells = byId("stages").rows[row].cells;
    ["min", "median", "max"].forEach((part, i) => setText(cells[i + 1], summary ? ms(summary[part]) : "–"));
  });
}

const ms = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);

function buildStages() {
  for (const name of [...STAGES, "sum"]) {
    const row = element("tr", "", name === "sum" ? "sum" : "");
    const head = element("th", name === "sum" ? "together" : "");
    head.scope = "row";
    if (name !== "sum") {
      const button = element("button", name);
      button.type = "button";
      button.title = "Show or hide in the chart";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!shownStages.delete(name)) shownStages.add(name);
        button.setAttribute("aria-pressed", String(shownStages.has(name)));
        slowDirty = true;
      });
      head.append(button);
    }
    row.append(head, element("td"), element("td"), element("td"));
    byId("stages").append(row);
  }
}

// Actions

function clearShown() {
  log.clear();
  timings.clear();
  scoreRing.clear();
  table.clear();
  slowDirty = true;
}

async function snapshot() {
  if (!newest) {
    toast("There is no picture yet.");
    return;
  }
  const shown = newest;
  const name = (shown.photo ?? `picture_${frameNumber(shown.frame_id)}`).replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "_");
  download(await view.snapshot(shown, names(), drawOptions()), `uhd_${name}_${stamp()}.png`);
}

function exportCoco() {
  const text = JSON.stringify(toCoco(log, now.device, now.config));
  download(new Blob([text], { type: "application/json" }), `uhd_detections_${stamp()}.json`);
}

function togglePause() {
  const again = player.isRecording && now.state?.state === "ended"; // a recording at its end begins again
  pause.set(again ? false : !pause.paused);
}

const record = () => { if (!byId("record").disabled) send({ do: "record", on: !recording }); };
const clear = () => {
  clearShown();
  toast("Cleared.");
};

byId("pause").addEventListener("click", togglePause);
byId("record").addEventListener("click", record);
byId("snapshot").addEventListener("click", snapshot);
byId("export").addEventListener("click", exportCoco);
byId("clear").addEventListener("click", clear);
byId("truth").addEventListener("change", () => { redraw = true; });
const repaint = () => { redraw = slowDirty = true; };
addEventListener("resize", repaint);
document.addEventListener("themechange", repaint);

const [threshold, nms] = sliders;
installKeys([
  [[" "], "pause or play", togglePause],
  [["."], "one picture more while paused", () => pause.step()],
  [["r"], "start or end a recording", record],
  [["s"], "snapshot as PNG", snapshot],
  [["e"], "export what was shown as COCO JSON", exportCoco],
  [["c"], "clear what was shown", clear],
  [["+", "-"], "score threshold up, down", () => threshold.change(0.05), () => threshold.change(-0.05)],
  [["]", "["], "NMS IoU up, down", () => nms.change(0.05), () => nms.change(-0.05)],
  [["ArrowLeft", "ArrowRight"], "5 s back, on (recordings)", () => player.move(-5), () => player.move(5)],
  [["t"], "colours: system, light, dark", () => globalThis.nextTheme()],
]);
buildStages();
showAll();
link.open();
requestAnimationFrame(frame);
