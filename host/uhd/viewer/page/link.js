// The connection to the host program: a websocket that opens itself again.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 3000;

export class Link {
  /** @param onEvent called with each event; @param onChange called with true (open) or false (lost). */
  constructor(onEvent, onChange) {
    this.onEvent = onEvent;
    this.onChange = onChange;
    this.wait = FIRST_WAIT_MS;
    this.socket = null;
  }

  open() {
    const url = new URL("events", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = location.search; // carries the token, where there is one
    url.searchParams.set("images", "1");
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.wait = FIRST_WAIT_MS;
      this.onChange(true);
    });
    socket.addEventListener("message", (message) => {
      const event = parse(message.data);
      if (event) this.onEvent(event);
    });
    socket.addEventListener("close", () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.onChange(false);
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    });
  }

  /** Send a command; false where there is no connection. */
  send(command) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(command));
    return true;
  }
}

function parse(text) {
  try {
    const event = JSON.parse(text);
    return event && typeof event.kind === "string" ? event : null;
  } catch {
    return null; // one damaged message is no reason to stop looking
  }
}

/** What the host program says about its source: kind, title, duration, names of faults. */
export async function fetchSource() {
  const answer = await fetch(`source.json${location.search}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`source.json: ${answer.status}`);
  return answer.json();
}
