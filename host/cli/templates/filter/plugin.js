// A filter: which messages does a consumer get?

import { filter } from "quern-plugin";

export default filter({
  summary: "Large orders from one region.",
  // `region` and `amount` of a message's properties; absent ones are undefined.
  reads: ["region", "amount:int"],
  params: {
    from: { default: "eu", help: "the region" },
    min: { default: 100, help: "the least amount" },
  },
  accept: (m, p) => m.region === p.from && m.amount >= p.min,
});
