// An allocation strategy: who of a group consumes which queue?

import { allocation } from "quern-plugin";

export default allocation({
  summary: "Shares by the members' weights.",
  // The number of each queue's member, counted from 0; null = nobody. Members have `id`, `zone` and `weight`; queues
  // `broker`, `id`, `zone`, `lag` and today's `owner`.
  allocate: ({ members, queues }) => {
    const owned = members.map(() => 0);
    return queues.map(() => {
      // Whose share is the least full; of equals the first.
      let least = null;
      const fill = (member) => (owned[member] + 1) / Math.max(members[member].weight, 1);
      for (const member of members.keys()) {
        if (least === null || fill(member) < fill(least)) least = member;
      }
      if (least !== null) owned[least] += 1;
      return least;
    });
  },
});
