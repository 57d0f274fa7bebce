// A queue selector: which queue does a message go to that its sender left open?

import { hashCode, selector } from "quern-plugin";

const remainder = (number, of) => ((number % of) + of) % of;

export default selector({
  summary: "A queue of their own for urgent messages.",
  reads: ["@tag", "@orderKey", "@sequence"],
  // The number of a queue, counted from 0. Queues have `broker`, `id`, `zone`, `latencyUs` and `backlog`.
  select: (m, queues) => {
    const others = queues.length - 1;
    if (others === 0 || m.tag === "urgent") return 0;
    // Messages with one order key share a queue; the others take them in turn.
    const number = m.orderKey === undefined ? (m.sequence ?? 0) : hashCode(m.orderKey);
    return 1 + remainder(number, others);
  },
});
