// Keyboard shortcuts, and the dialog that lists them.

import { byId, element } from "./dom.js";

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→" };

/** @param shortcuts rows of [keys, what it does, action]. */
export function installKeys(shortcuts) {
  const dialog = byId("keys");
  const on = byId("keys-on");
  try { on.checked = localStorage.getItem("uhd-keys") !== "off"; } catch { /* then they are on */ }
  on.addEventListener("change", () => {
    try { localStorage.setItem("uhd-keys", on.checked ? "on" : "off"); } catch { /* for this page only */ }
  });
  const open = () => { if (!dialog.open) dialog.showModal(); };
  byId("help").addEventListener("click", open);
  const all = [...shortcuts, [["?"], "this list", open]];
  const parts = [];
  for (const [keys, what] of all) {
    const name = element("dt");
    keys.forEach((key, i) => name.append(i ? " " : "", element("kbd", NAMES[key] ?? key)));
    parts.push(name, element("dd", what));
  }
  byId("key-list").replaceChildren(...parts);

  const actions = new Map(all.flatMap(([keys, , ...acts]) => keys.map((key, i) => [key, acts[i] ?? acts[0]])));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const { target } = event;
    const type = target.tagName === "INPUT" ? target.type : target.tagName;
    // Keys that the focused control needs itself stay with it.
    if (event.key === " " && ["BUTTON", "SELECT", "checkbox"].includes(type)) return;
    if (event.key.startsWith("Arrow") && ["SELECT", "range", "PRE", "DIV"].includes(type)) return;
    if (type === "SELECT" || (!on.checked && event.key !== " ")) return;
    const action = actions.get(event.key) ?? actions.get(event.key.toLowerCase());
    if (!action) return;
    event.preventDefault();
    action();
  });
}
