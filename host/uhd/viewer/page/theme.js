// A classic script in the head, so that the chosen colours are there before anything is painted.
(() => {
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  const described = { auto: "as the system", light: "light", dark: "dark" };
  let stored = null;
  try { stored = localStorage.getItem("uhd-theme"); } catch { /* storage may be switched off */ }
  let theme = stored in names ? stored : "auto";

  function apply() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = `◐ ${names[theme]}`;
      button.setAttribute("aria-label", `Colours: ${described[theme]}`);
    }
    document.dispatchEvent(new Event("themechange"));
  }

  globalThis.nextTheme = () => {
    const order = Object.keys(names);
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try { localStorage.setItem("uhd-theme", theme); } catch { /* kept for this page only */ }
    apply();
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", globalThis.nextTheme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
})();
