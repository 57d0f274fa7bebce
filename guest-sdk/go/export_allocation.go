//go:build wasip1 && quern_allocation

package quern

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

func whole() {
	if the[Allocation]().Allocate == nil {
		must(errors.New("the allocation strategy has no Allocate"))
	}
}

//go:wasmexport quern:plugin/allocation-strategy@0.1.0#check
func check(params unsafe.Pointer, paramsLen uint32) unsafe.Pointer {
	var step func(*Params) (any, error)
	if it := the[Allocation](); it.Check != nil {
		step = func(p *Params) (any, error) { return nil, it.Check(p) }
	}
	// What is checked is not kept: each request brings its own.
	return open("", pairs(params, paramsLen), step, func(number uint32) uint32 {
		dropped(number)
		return 0
	})
}

type member struct {
	id     list
	zone   list
	weight uint32
}

// The number of 64 bits begins at one that is divided by 8.
type ownedQueue struct {
	broker list
	id     uint32
	zone   list
	owner  uint32
	lag    int64
}

//go:wasmexport quern:plugin/allocation-strategy@0.1.0#allocate
func allocate(group unsafe.Pointer, groupLen uint32, topic unsafe.Pointer, topicLen uint32, members unsafe.Pointer,
	membersLen uint32, queues unsafe.Pointer, queuesLen uint32, params unsafe.Pointer, paramsLen uint32) unsafe.Pointer {
	request := &Request{Group: lifted(group, groupLen), Topic: lifted(topic, topicLen)}
	for _, it := range sliced[member](members, membersLen) {
		request.Members = append(request.Members, Member{it.id.lifted(), it.zone.lifted(), it.weight})
	}
	for _, it := range sliced[ownedQueue](queues, queuesLen) {
		owner := Nobody
		if it.owner != math.MaxUint32 {
			owner = int(it.owner)
		}
		request.Queues = append(request.Queues, OwnedQueue{it.broker.lifted(), it.id, it.zone.lifted(), owner, it.lag})
	}
	set, refusal := checked(exported.about().Params, pairs(params, paramsLen))
	begin()
	if refusal != nil {
		return loweredWords(nil, refusal)
	}
	decide := the[Allocation]().Allocate
	owners, err := attempt(func() ([]int, error) { return decide(request, set) })
	if err == nil && len(owners) != len(request.Queues) {
		err = fmt.Errorf("%d owners are named, of %d queues", len(owners), len(request.Queues))
	}
	out := make([]uint32, len(owners))
	for index, owner := range owners {
		if owner != Nobody && (owner < 0 || owner >= len(request.Members)) && err == nil {
			err = fmt.Errorf("%d is not the number of a member; there are %d, counted from 0", owner, len(request.Members))
		}
		out[index] = uint32(owner)
	}
	return loweredWords(out, err)
}
