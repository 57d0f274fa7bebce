//go:build wasip1 && quern_body_filter

package quern

import (
	"errors"
	"unsafe"
)

//go:wasmimport [export]quern:plugin/body-filter@0.1.0 [resource-new]subscription
func newSubscription(number uint32) uint32

func whole() {
	if the[BodyFilter]().Matches == nil {
		must(errors.New("the body filter has no Matches"))
	}
}

//go:wasmexport quern:plugin/body-filter@0.1.0#[static]subscription.compile
func compile(at unsafe.Pointer, length uint32, params unsafe.Pointer, paramsLen uint32) unsafe.Pointer {
	expression, given := lifted(at, length), pairs(params, paramsLen)
	var step func(*Params) (any, error)
	if it := the[BodyFilter](); it.Compile != nil {
		step = func(p *Params) (any, error) { return it.Compile(expression, p) }
	}
	return open(expression, given, step, newSubscription)
}

//go:wasmexport quern:plugin/body-filter@0.1.0#[dtor]subscription
func drop(number uint32) { dropped(number) }

//go:wasmexport quern:plugin/body-filter@0.1.0#[method]subscription.needs
func subscriptionNeeds(number uint32) unsafe.Pointer { return needed(ones[number].needs) }

//go:wasmexport quern:plugin/body-filter@0.1.0#[method]subscription.matches
func matches(number, length uint32, ends unsafe.Pointer, endsLen uint32, text unsafe.Pointer, textLen uint32,
	numbers unsafe.Pointer, numbersLen uint32, bodyEnds unsafe.Pointer, bodyEndsLen uint32, bodies unsafe.Pointer,
	bodiesLen uint32) unsafe.Pointer {
	it := ones[number]
	laid := batchOf(it.needs, ends, endsLen, text, textLen, numbers, numbersLen)
	last, all := sliced[uint32](bodyEnds, bodyEndsLen), sliced[byte](bodies, bodiesLen)
	begin()
	return verdicts(laid, length, it.params, the[BodyFilter]().Matches, func(message int) []byte {
		start := uint32(0)
		if message > 0 {
			start = last[message-1]
		}
		return all[start:last[message]:last[message]]
	})
}
