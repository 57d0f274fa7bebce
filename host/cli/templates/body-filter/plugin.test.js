import assert from "node:assert/strict";
import test from "node:test";

import plugin from "./plugin.js";

test("what is urgent need not contain anything", () => {
  const body = { text: "{}" };
  assert(plugin.accept({ tag: "urgent", body }, { text: "paid" }));
  assert(!plugin.accept({ body }, { text: "paid" }));
});
