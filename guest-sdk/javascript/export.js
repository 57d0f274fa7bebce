// From the contract's functions to an author's. What an author's code throws is logged, and is a failure: the
// broker asks about smaller parts of the batch until the message at fault stands alone.

import { connect, log, told } from "./host.js";
import { Reads, bodiesOf } from "./message.js";
import { Params } from "./params.js";
import { Refusal } from "./refusal.js";

/** 2^32 - 1: engines take and give unsigned numbers from 2^31 on as negative ones. */
const NOBODY = -1;

/** The interfaces of a plugin's world, by the names the build exports them under. */
export function exported(plugin, { name, version, description, kind }, host) {
  const kinds = { filter, "body-filter": bodyFilter, selector, allocation };
  if (plugin?.kind === undefined) {
    throw new TypeError(`the main module has no plugin as its default export: export default ${kind}({ … })`);
  }
  if (plugin.kind !== kind) {
    throw new TypeError(`the main module makes a ${plugin.kind}, and package.json says quern.kind is ${kind}`);
  }
  const called = plugin.name ?? name;
  const params = new Params(plugin, called);
  const about = {
    describe() {
      return {
        name: called,
        version: plugin.version ?? version,
        summary: plugin.summary ?? description ?? "",
        language: plugin.language ?? null,
        params: params.lowered(),
      };
    },
  };
  return { about, ...kinds[kind](plugin, params, host) };
}

/** Runs what answers, or says that it cannot. */
function attempt(host, work) {
  connect(host);
  try {
    return work();
  } catch (error) {
    log("error", told(error));
    throw error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

/** Runs what may refuse; whatever else is thrown stops the instance, and these are its last words. */
function refusable(host, expression, given, work) {
  connect(host);
  try {
    return work();
  } catch (error) {
    if (error instanceof Refusal) throw error.lowered(expression, new Map(given));
    log("error", told(error));
    throw error;
  }
}

/** A bit for each message that is accepted; `next` gives them, one after the other. */
function verdicts(plugin, { params, compiled }, { len }, next) {
  const words = new Array(Math.ceil(len / 32)).fill(0);
  for (let place = 0; place < len; place += 1) {
    if (plugin.accept(next(), params, compiled)) words[place >> 5] |= 1 << (place & 31);
  }
  return words;
}

function subscription(plugin, params, host, reads) {
  return class Subscription {
    static compile(expression, given) {
      return refusable(host, expression, given, () => {
        const it = new this();
        it.params = params.checked(given);
        it.compiled = plugin.compile?.(expression, it.params);
        return it;
      });
    }

    needs() {
      return reads.needs();
    }
  };
}

function filter(plugin, params, host) {
  const reads = new Reads(plugin.reads);
  class Subscription extends subscription(plugin, params, host, reads) {
    matches(batch) {
      return attempt(host, () => verdicts(plugin, this, batch, reads.messages(batch)));
    }
  }
  return { filter: { Subscription } };
}

function bodyFilter(plugin, params, host) {
  const reads = new Reads(plugin.reads, true);
  class Subscription extends subscription(plugin, params, host, reads) {
    matches(batch, ends, bodies) {
      return attempt(host, () => {
        const [message, body] = [reads.messages(batch), bodiesOf(ends, bodies)];
        return verdicts(plugin, this, batch, () => Object.assign(message(), { body: body() }));
      });
    }
  }
  return { bodyFilter: { Subscription } };
}

function selector(plugin, params, host) {
  const reads = new Reads(plugin.reads);
  class Selector {
    static open(given) {
      return refusable(host, "", given, () => {
        const it = new this();
        it.params = params.checked(given);
        it.opened = plugin.open?.(it.params);
        it.queues = [];
        return it;
      });
    }

    needs() {
      return reads.needs();
    }

    route(queues) {
      const unsigned = ({ latencyUs, backlog }) => ({ latencyUs: latencyUs >>> 0, backlog: backlog >>> 0 });
      this.queues = queues.map((it) => ({ ...it, ...unsigned(it) }));
    }

    select(batch) {
      return attempt(host, () => {
        if (this.queues.length === 0) throw new Error("there is no queue to choose from");
        const next = reads.messages(batch);
        return Array.from({ length: batch.len }, () => {
          const chosen = plugin.select(next(), this.queues, this.params, this.opened);
          return index(chosen, this.queues, "a queue");
        });
      });
    }
  }
  return { queueSelector: { Selector } };
}

function allocation(plugin, params, host) {
  const checked = (given) => {
    const values = params.checked(given);
    plugin.check?.(values);
    return values;
  };
  const allocate = (request, given) => attempt(host, () => {
    const { group, topic } = request;
    const members = request.members.map((it) => ({ ...it, weight: it.weight >>> 0 }));
    const queues = request.queues.map((queue) => ({
      ...queue,
      owner: (queue.owner | 0) === NOBODY ? null : queue.owner,
      lag: queue.lag < 0 ? null : queue.lag,
    }));
    const owners = plugin.allocate({ group, topic, members, queues }, params.checked(given));
    return owners.map((owner) => (owner === null || owner === undefined ? NOBODY : index(owner, members, "a member")));
  });
  const check = (given) => refusable(host, "", given, () => {
    checked(given);
  });
  return { allocationStrategy: { check, allocate } };
}

/** Counted from 0; what is none would reach the broker as some other number. */
function index(value, of, what) {
  if (Number.isInteger(value) && value >= 0 && value < of.length) return value;
  throw new RangeError(`${value} is not the number of ${what}; there are ${of.length}, counted from 0`);
}
