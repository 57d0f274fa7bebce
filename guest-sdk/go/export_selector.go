//go:build wasip1 && quern_selector

package quern

import (
	"errors"
	"fmt"
	"unsafe"
)

//go:wasmimport [export]quern:plugin/queue-selector@0.1.0 [resource-new]selector
func newSelector(number uint32) uint32

func whole() {
	if the[Selector]().Select == nil {
		must(errors.New("the selector has no Select"))
	}
}

//go:wasmexport quern:plugin/queue-selector@0.1.0#[static]selector.open
func openSelector(params unsafe.Pointer, paramsLen uint32) unsafe.Pointer {
	return open("", pairs(params, paramsLen), the[Selector]().Open, newSelector)
}

//go:wasmexport quern:plugin/queue-selector@0.1.0#[dtor]selector
func drop(number uint32) { dropped(number) }

//go:wasmexport quern:plugin/queue-selector@0.1.0#[method]selector.needs
func selectorNeeds(number uint32) unsafe.Pointer { return needed(ones[number].needs) }

type queue struct {
	broker    list
	id        uint32
	zone      list
	latencyUs uint32
	backlog   uint32
}

//go:wasmexport quern:plugin/queue-selector@0.1.0#[method]selector.route
func route(number uint32, queues unsafe.Pointer, length uint32) {
	all := make([]Queue, length)
	for index, it := range sliced[queue](queues, length) {
		all[index] = Queue{it.broker.lifted(), it.id, it.zone.lifted(), it.latencyUs, it.backlog}
	}
	ones[number].queues = all
	begin()
}

//go:wasmexport quern:plugin/queue-selector@0.1.0#[method]selector.select
func selectQueues(number, length uint32, ends unsafe.Pointer, endsLen uint32, text unsafe.Pointer, textLen uint32,
	numbers unsafe.Pointer, numbersLen uint32) unsafe.Pointer {
	it := ones[number]
	laid := batchOf(it.needs, ends, endsLen, text, textLen, numbers, numbersLen)
	begin()
	choose := the[Selector]().Select
	chosen, err := attempt(func() ([]uint32, error) {
		if len(it.queues) == 0 {
			return nil, errors.New("there is no queue to choose from")
		}
		chosen := make([]uint32, length)
		m := &Message{batch: laid}
		for ; m.number < int(length); m.number++ {
			queue, err := choose(m, it.queues, it.params)
			if err == nil && (queue < 0 || queue >= len(it.queues)) {
				err = fmt.Errorf("%d is not the number of a queue; there are %d, counted from 0", queue, len(it.queues))
			}
			if err != nil {
				return nil, err
			}
			chosen[m.number] = uint32(queue)
		}
		return chosen, nil
	})
	return loweredWords(chosen, err)
}
