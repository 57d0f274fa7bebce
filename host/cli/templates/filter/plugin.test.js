import assert from "node:assert/strict";
import test from "node:test";

import plugin from "./plugin.js";

test("an order without an amount is not large", () => {
  const params = { from: "eu", min: 100 };
  assert(plugin.accept({ region: "eu", amount: 100 }, params));
  assert(!plugin.accept({ region: "eu" }, params));
});
