// How things stand: the pill in the header, and a banner with what to do where something is wrong.

import { byId, setText } from "./dom.js";

const STATES = {
  connecting: {
    pill: "connecting", level: "wait", title: "Looking for the device.",
    advice: "If this takes long: check the cable, and that no other program has the port open.",
  },
  ready: { pill: "ready", level: "ok" },
  silent: {
    pill: "silent", level: "bad", title: "The device is silent.",
    advice: "The port is open, but nothing comes. Press the board's reset button; if that does not help, look at its "
      + "console with “python -m uhd.host monitor”.",
  },
  gone: {
    pill: "unplugged", level: "bad", title: "The device is unplugged.",
    advice: "Plug it in again: the picture comes back by itself.",
  },
  refused: {
    pill: "refused", level: "bad", title: "The device cannot be used as it is.",
    advice: "Build and flash firmware that fits this program: “python -m uhd.host build-fw”, then “flash”.",
  },
  ended: {
    pill: "ended", level: "wait", title: "This is the end.",
    advice: "What is shown is the last picture.",
  },
};

const ENDED_RECORDING = "Press Play to see it again, or move the position.";

const LOST = {
  pill: "no host", level: "bad", title: "The connection to the host program is lost.",
  advice: "If it was ended, start “python -m uhd.host view” again: this page connects by itself.",
};

/** Where things stand for people: { pill, level, title, text, advice }; no title: no banner. */
export function describe(connected, state, isRecording) {
  if (!connected) return { ...LOST, text: "" };
  const known = STATES[state?.state] ?? STATES.connecting;
  const advice = state?.state === "ended" && isRecording ? ENDED_RECORDING : known.advice;
  return { ...known, advice, text: state?.text ?? "" };
}

export function showState(connected, state, isRecording) {
  const { pill, level, title, text, advice } = describe(connected, state, isRecording);
  byId("pill").dataset.level = level;
  setText(byId("pill-text"), pill);
  byId("pill").title = text;
  const banner = byId("banner");
  setText(byId("banner-title"), title ?? "");
  setText(byId("banner-text"), title && text ? `${sentence(text)} ` : "");
  setText(byId("banner-advice"), title ? advice : "");
  banner.dataset.level = level;
  banner.hidden = !title;
}

function sentence(text) {
  const trimmed = text.trim();
  const begun = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
