import assert from "node:assert/strict";
import test from "node:test";

import plugin from "./plugin.js";

test("who weighs twice as much gets twice as many", () => {
  const members = [{ id: "a", weight: 2 }, { id: "b", weight: 1 }];
  const queues = [0, 1, 2].map((id) => ({ broker: "x", id }));
  assert.deepEqual(plugin.allocate({ members, queues }), [0, 0, 1]);
});
