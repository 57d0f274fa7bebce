// A filter that reads bodies, too: which messages does a consumer get?

import { Refusal, bodyFilter } from "quern-plugin";

export default bodyFilter({
  summary: "Bodies that contain a text, and all that is urgent.",
  reads: ["@tag"],
  params: {
    text: { type: "text", help: "what a body has to contain" },
  },
  // Once for each consumer, before the first message.
  compile: (_expression, p) => {
    if (p.text === "") throw new Refusal("every body contains nothing", { param: "text" });
  },
  // There are `m.body.json` and `m.body.bytes`, too.
  accept: (m, p) => m.tag === "urgent" || m.body.text.includes(p.text),
});
