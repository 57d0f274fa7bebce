// Parameters: what a plugin takes, and what consumers gave, checked before the plugin sees it.

import { Refusal } from "./refusal.js";

const NUMBER = /^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$/i;
const LEAST = -(2n ** 63n);
const MOST = 2n ** 63n - 1n;

const isInteger = (value) => /^[+-]?\d+$/.test(value) && BigInt(value.replace("+", "")) >= LEAST && BigInt(value.replace("+", "")) <= MOST;

function toNumber(value) {
  const word = /^([+-]?)(inf|infinity|nan)$/i.exec(value);
  if (word === null) return Number(value);
  if (/nan/i.test(word[2])) return NaN;
  return word[1] === "-" ? -Infinity : Infinity;
}

const TYPES = {
  text: { fits: () => true, wanted: () => "a text", value: (it) => it },
  integer: { fits: isInteger, wanted: () => "a whole number", value: Number },
  number: { fits: (it) => NUMBER.test(it), wanted: () => "a number", value: toNumber },
  boolean: { fits: (it) => it === "true" || it === "false", wanted: () => "true or false", value: (it) => it === "true" },
  choice: { fits: (it, { choices }) => choices.includes(it), wanted: ({ choices }) => choices.join(" or "), value: (it) => it },
};

/** What a default says of its parameter. */
function typeOf(value, choices) {
  if (choices !== undefined) return "choice";
  if (typeof value === "boolean") return "boolean";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return "text";
}

function described(name, given) {
  const it = given !== null && typeof given === "object" ? given : { default: given };
  const type = it.type ?? typeOf(it.default, it.choices);
  if (TYPES[type] === undefined) {
    throw new TypeError(`parameter ${name} is of type ${type}; there are ${Object.keys(TYPES).join(", ")}`);
  }
  const param = {
    name,
    type,
    default: it.default === undefined ? null : String(it.default),
    choices: it.choices ?? [],
    help: it.help ?? "",
  };
  if (param.default !== null && !TYPES[type].fits(param.default, param)) {
    throw new TypeError(`the default of parameter ${name} is not ${TYPES[type].wanted(param)}`);
  }
  return param;
}

export class Params {
  constructor(plugin, name) {
    this.name = name;
    this.described = Object.entries(plugin.params ?? {}).map(([param, given]) => described(param, given));
  }

  /** As the contract has them. */
  lowered() {
    return this.described.map((it) => ({ name: it.name, kind: it.type, default: it.default, choices: it.choices, help: it.help }));
  }

  /** What consumers gave, as the plugin sees it. */
  checked(given) {
    const values = {};
    for (const [name, value] of given) {
      const param = this.described.find((it) => it.name === name);
      if (param === undefined) throw this.unknown(name);
      const type = TYPES[param.type];
      if (!type.fits(value, param)) {
        throw new Refusal(`${JSON.stringify(value)} is not ${type.wanted(param)}`, { param: name });
      }
      values[name] ??= type.value(value);
    }
    for (const param of this.described) {
      if (values[param.name] !== undefined) continue;
      if (param.default === null) {
        throw new Refusal("the parameter is required", { param: param.name, help: param.help || null });
      }
      values[param.name] = TYPES[param.type].value(param.default);
    }
    return Object.freeze(values);
  }

  unknown(name) {
    const names = this.described.map((it) => it.name);
    const help = names.length === 0 ? `${this.name} takes no parameters` : `${this.name} takes ${names.join(", ")}`;
    return new Refusal("there is no such parameter", { param: name, help });
  }
}
