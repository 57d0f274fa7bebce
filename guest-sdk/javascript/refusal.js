// Why an expression or a parameter is not accepted, and where.

import { byteLength } from "./text.js";

/** Thrown by `compile`, `check` or `open`: the consumer is told. Places count characters as strings do. */
export class Refusal extends Error {
  constructor(reason, { code, param = null, at = 0, length = null, help = null } = {}) {
    super(reason);
    this.name = "Refusal";
    Object.assign(this, { code: code ?? (param === null ? "syntax" : "bad-param"), param, at, length, help });
  }

  /** As the contract has it, in bytes of what it speaks of. */
  lowered(expression, given) {
    const about = this.param === null ? expression : (given.get(this.param) ?? "");
    const end = this.length === null ? about.length : this.at + this.length;
    return {
      code: this.code,
      param: this.param,
      at: byteLength(about.slice(0, this.at)),
      len: byteLength(about.slice(this.at, end)),
      reason: this.message,
      help: this.help,
    };
  }
}
