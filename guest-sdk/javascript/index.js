// What a plugin's author imports: a function for each kind of plugin, and what all of them may use.
// A plugin has no clock, no randomness and no I/O: the same message gets the same answer.

import { count, log } from "./host.js";
import { Refusal } from "./refusal.js";

export { exported } from "./export.js";
export { count, log, Refusal };

const made = (kind, needed) => (plugin) => {
  if (plugin === null || typeof plugin !== "object" || typeof plugin[needed] !== "function") {
    throw new TypeError(`a plugin of this kind is an object with a function ${needed}`);
  }
  return { ...plugin, kind };
};

/** Which messages does a consumer get? */
export const filter = made("filter", "accept");

/** The same, with `m.body` to read: its `text`, its `json`, its `bytes`. */
export const bodyFilter = made("body-filter", "accept");

/** Which queue does a message go to that its sender left open? */
export const selector = made("selector", "select");

/** Who of a group consumes which queue? */
export const allocation = made("allocation", "allocate");

/** `String.hashCode` of Java: what RocketMQ's answers rest on. */
export function hashCode(text) {
  let hash = 0;
  for (let unit = 0; unit < text.length; unit += 1) {
    hash = (Math.imul(hash, 31) + text.charCodeAt(unit)) | 0;
  }
  return hash;
}
