// All that a plugin may ask of the broker. In tests under Node.js, lines go to the console and counts nowhere.

const isNode = typeof process !== "undefined";
let broker = null;

/** From now on there is a broker; while a component is being built there is none. */
export function connect(host) {
  broker = host;
}

/** A line for the broker's log, at "debug", "info", "warn" or "error"; at most 1 KiB, ten a call. */
export function log(level, line) {
  if (broker !== null) {
    broker.log(level, line);
  } else if (isNode) {
    console.log(`${level}: ${line}`);
  }
}

/** Adds to a counter of the plugin's own; at most 16 names. */
export function count(name, by = 1) {
  broker?.count(name, by);
}

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return told(value);
  return JSON.stringify(value) ?? String(value);
}

/** What was thrown, and where. */
export function told(error) {
  if (!(error instanceof Error)) return shown(error);
  const frames = (error.stack ?? "").split("\n").map((it) => it.trim()).filter((it) => it.startsWith("at "));
  return [`${error.name}: ${error.message}`, ...frames.slice(0, 6)].join(" ");
}

if (!isNode) {
  const say = (level) => (...values) => log(level, values.map(shown).join(" "));
  const [debug, info, warn, error] = ["debug", "info", "warn", "error"].map(say);
  globalThis.console = { debug, trace: debug, log: info, info, warn, error };

  // Who asked these would answer otherwise the next time.
  const missing = (what) => () => {
    throw new Error(`a plugin has no ${what}: the same message gets the same answer`);
  };
  Math.random = missing("randomness");
  const now = missing("clock");
  globalThis.Date = class extends Date {
    constructor(...parts) {
      super(...(parts.length === 0 ? [now()] : parts));
    }

    static now() {
      return now();
    }
  };
  Object.defineProperty(globalThis, "performance", { value: { now } });
}
