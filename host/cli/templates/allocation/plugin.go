// An allocation strategy: who of a group consumes which queue?
package main

import "quernplugin/quern"

var plugin = quern.Allocation{
	About: quern.About{Summary: "Shares by the members' weights"},
	// The number of each queue's member, counted from 0, or quern.Nobody.
	Allocate: func(r *quern.Request, _ *quern.Params) ([]int, error) {
		owned := make([]uint64, len(r.Members))
		owners := make([]int, len(r.Queues))
		for queue := range owners {
			// Whose share is the least full; of equals the first.
			owner, least := quern.Nobody, uint64(0)
			for member := range owned {
				fill := (owned[member] + 1) * 1_000_000 / uint64(max(r.Members[member].Weight, 1))
				if owner == quern.Nobody || fill < least {
					owner, least = member, fill
				}
			}
			owners[queue] = owner
			if owner != quern.Nobody {
				owned[owner]++
			}
		}
		return owners, nil
	},
}

func init() { quern.Export(plugin) }

func main() {}
