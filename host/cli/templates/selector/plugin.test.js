import assert from "node:assert/strict";
import test from "node:test";

import plugin from "./plugin.js";

test("one order key, one queue", () => {
  const queues = [0, 1, 2].map((id) => ({ broker: "a", id, zone: "" }));
  const chosen = [7, 8].map((sequence) => plugin.select({ orderKey: "customer-7", sequence }, queues));
  assert.equal(chosen[0], chosen[1]);
});
