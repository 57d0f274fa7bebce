// A message as a plugin sees it: a property for each thing it reads, `undefined` where the message has none.

import { Body, align } from "./text.js";

const TEXTS = {
  tag: "tag",
  keys: "keys",
  topic: "topic",
  messageId: "message-id",
  orderKey: "order-key",
  group: "group",
  zone: "zone",
};
const NUMBERS = {
  tagCode: "tag-code",
  queueId: "queue-id",
  queueOffset: "queue-offset",
  size: "size",
  bornAt: "born-timestamp",
  storedAt: "store-timestamp",
  attempts: "reconsume-times",
  sequence: "sequence",
  random: "random",
};
/** Of this and less, one mark says that there is no number, the other that there is something else. */
const NOT_A_NUMBER = -(2 ** 63) + 1024;

/** `region` and `amount:int` are properties, `@tag` is the message's own. */
function read(what) {
  if (typeof what !== "string") throw new TypeError(`what is read is named by a text, not ${what}`);
  if (what.startsWith("@")) {
    const name = what.slice(1);
    if (TEXTS[name] !== undefined) return { name, text: { tag: TEXTS[name] } };
    if (NUMBERS[name] !== undefined) return { name, number: { tag: NUMBERS[name] } };
    const known = [...Object.keys(TEXTS), ...Object.keys(NUMBERS)].map((it) => `@${it}`);
    throw new TypeError(`a message has no ${what}; there are ${known.join(", ")}`);
  }
  const [, name, type] = /^(.*?)(?::(text|int))?$/s.exec(what);
  if (name === "") throw new TypeError("a property has a name");
  if (type === "int") return { name, number: { tag: "integer", val: name } };
  return { name, text: { tag: "property", val: name } };
}

/** What is read of messages, and how it is found in a batch. */
export class Reads {
  constructor(reads = [], hasBody = false) {
    const all = reads.map(read);
    const taken = new Set(hasBody ? ["body"] : []);
    for (const { name } of all) {
      if (taken.has(name)) throw new TypeError(`${name} is read twice`);
      taken.add(name);
    }
    this.fields = all.filter((it) => it.text !== undefined);
    this.numbers = all.filter((it) => it.number !== undefined);
    this.reader = reader(this.fields, this.numbers);
  }

  /** As the contract has it. */
  needs(tagCodes = null) {
    return {
      fields: this.fields.map((it) => it.text),
      numbers: this.numbers.map((it) => it.number),
      tagCodes,
    };
  }

  /** A function that gives the messages of a batch, one after the other. */
  messages({ text, ends, numbers }) {
    align(text, ends);
    return this.reader(text, ends, numbers);
  }
}

/**
 * A function written for what is read: in engines that interpret, one object written out takes half the time of one that
 * is filled in a loop. An absent text has the top bit of its end set, and no length.
 */
function reader(fields, numbers) {
  const key = (name) => (name === "__proto__" ? `[${JSON.stringify(name)}]` : JSON.stringify(name));
  const text = ({ name }, at) => `${key(name)}: (end = ends[t + ${at}] | 0) < 0 ? undefined : text.slice(start, start = end)`;
  const number = ({ name }, at) => `${key(name)}: (value = numbers[n + ${at}]) > ${NOT_A_NUMBER} ? value : undefined`;
  const parts = [...fields.map(text), ...numbers.map(number)].join(", ");
  const body = `let t = 0, n = 0, start = 0, end, value;
    return () => {
      const message = { ${parts} };
      t += ${fields.length};
      n += ${numbers.length};
      return message;
    };`;
  return new Function("text", "ends", "numbers", body);
}

/** The bodies of a batch, one after the other. */
export function bodiesOf(ends, bytes) {
  const all = bytes instanceof Uint8Array ? bytes : Uint8Array.from(bytes);
  let [place, start] = [0, 0];
  return () => new Body(all.subarray(start, (start = ends[place++])));
}
