//go:build wasip1 && quern_filter

package quern

import (
	"errors"
	"unsafe"
)

//go:wasmimport [export]quern:plugin/filter@0.1.0 [resource-new]subscription
func newSubscription(number uint32) uint32

func whole() {
	if the[Filter]().Matches == nil {
		must(errors.New("the filter has no Matches"))
	}
}

//go:wasmexport quern:plugin/filter@0.1.0#[static]subscription.compile
func compile(at unsafe.Pointer, length uint32, params unsafe.Pointer, paramsLen uint32) unsafe.Pointer {
	expression, given := lifted(at, length), pairs(params, paramsLen)
	var step func(*Params) (any, error)
	if it := the[Filter](); it.Compile != nil {
		step = func(p *Params) (any, error) { return it.Compile(expression, p) }
	}
	return open(expression, given, step, newSubscription)
}

//go:wasmexport quern:plugin/filter@0.1.0#[dtor]subscription
func drop(number uint32) { dropped(number) }

//go:wasmexport quern:plugin/filter@0.1.0#[method]subscription.needs
func subscriptionNeeds(number uint32) unsafe.Pointer { return needed(ones[number].needs) }

//go:wasmexport quern:plugin/filter@0.1.0#[method]subscription.matches
func matches(number, length uint32, ends unsafe.Pointer, endsLen uint32, text unsafe.Pointer, textLen uint32,
	numbers unsafe.Pointer, numbersLen uint32) unsafe.Pointer {
	it := ones[number]
	laid := batchOf(it.needs, ends, endsLen, text, textLen, numbers, numbersLen)
	begin()
	return verdicts(laid, length, it.params, the[Filter]().Matches, nil)
}
