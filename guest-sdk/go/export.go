//go:build wasip1

package quern

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"unsafe"
)

// The functions of the contract, as the canonical ABI flattens them. Structs here are laid out as the ABI lays out the
// contract's records; addresses in them are no pointers to Go, so what they lead to is kept by `answered`.

type list struct {
	at, len uint32
}

type optional struct {
	isThere uint32
	it      list
}

// What the broker has handed over for the call to come, and what the last call has answered with.
var (
	handed   [][]uint64
	answered []any
)

// space is where the broker puts what it hands over: the canonical ABI's own function.
//
//go:wasmexport cabi_realloc
func space(old unsafe.Pointer, oldLen, align, length uint32) unsafe.Pointer {
	// One more, so that there is an address even for nothing.
	piece := make([]uint64, length/8+1)
	handed = append(handed, piece)
	at := unsafe.Pointer(unsafe.SliceData(piece))
	if oldLen > 0 {
		copy(unsafe.Slice((*byte)(at), length), unsafe.Slice((*byte)(old), oldLen))
	}
	return at
}

// begin is called first in every call that answers, and lets go of what is over.
func begin() {
	clear(handed)
	handed = handed[:0]
	clear(answered)
	answered = answered[:0]
}

func address(it unsafe.Pointer) uint32 {
	return uint32(uintptr(it))
}

func lowered(text string) list {
	answered = append(answered, text)
	return list{address(unsafe.Pointer(unsafe.StringData(text))), uint32(len(text))}
}

func loweredOptional(text string) optional {
	if text == "" {
		return optional{}
	}
	return optional{1, lowered(text)}
}

func loweredList[T any](all []T) list {
	answered = append(answered, all)
	return list{address(unsafe.Pointer(unsafe.SliceData(all))), uint32(len(all))}
}

func loweredAnswer[T any](it *T) unsafe.Pointer {
	answered = append(answered, it)
	return unsafe.Pointer(it)
}

func lifted(at unsafe.Pointer, length uint32) string {
	if length == 0 {
		return ""
	}
	return unsafe.String((*byte)(at), length)
}

// lifted is a string inside a list, as the contract hands it over.
func (it list) lifted() string {
	if it.len == 0 {
		return ""
	}
	return lifted(pointer(it.at), it.len)
}

// pointer leads to what `handed` keeps, so nothing moves or goes while it is in use.
func pointer(at uint32) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(nil), at)
}

func sliced[T any](at unsafe.Pointer, length uint32) []T {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(at), length)
}

func pairs(at unsafe.Pointer, length uint32) []pair {
	given := make([]pair, length)
	for index, it := range sliced[[2]list](at, length) {
		given[index] = pair{it[0].lifted(), it[1].lifted()}
	}
	return given
}

// place is where a panic began, in the author's own words if it can be told.
func place() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		isOurs := strings.HasPrefix(frame.Function, "runtime.") || strings.Contains(frame.Function, "/quern.")
		if !isOurs || !more {
			return fmt.Sprintf("%s:%d", path.Base(frame.File), frame.Line)
		}
	}
}

// attempt is what is returned, and a panic as an error that has been logged with its place.
func attempt[T any](do func() (T, error)) (it T, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("panic: %v (%s)", what, place())
			log(Error, err.Error())
		}
	}()
	return do()
}

// must ends the instance, once it is told why.
func must(err error) {
	if err != nil {
		log(Error, err.Error())
		panic(err)
	}
}

// What plugin.toml says: set by the linker, as quern plugin build tells it.
var name, version, description, kind string

// the is the plugin, if it is of the kind that is exported.
func the[T Plugin]() T {
	it, is := exported.(T)
	if !is {
		given := "nothing"
		if exported != nil {
			given = "a plugin of kind " + exported.kind()
		}
		must(fmt.Errorf("plugin.toml says that the kind is %s, and %s is given to quern.Export", kind, given))
	}
	return it
}

type describedParam struct {
	name      list
	kind      uint32
	byDefault optional
	choices   list
	help      list
}

type describedPlugin struct {
	name, version, summary list
	language               optional
	params                 list
}

//go:wasmexport quern:plugin/about@0.1.0#describe
func describe() unsafe.Pointer {
	begin()
	whole()
	about := exported.about()
	_, err := needsOf(about.Reads)
	must(err)
	must(describable(about.Params))
	params := make([]describedParam, len(about.Params))
	for index := range about.Params {
		it := &about.Params[index]
		choices := make([]list, len(it.Choices))
		for place, choice := range it.Choices {
			choices[place] = lowered(choice)
		}
		kind := uint32(it.Type)
		if it.Type == Choice {
			// Duration, which stands before it in the contract, is no kind of these.
			kind = 5
		}
		params[index] = describedParam{lowered(it.Name), kind, optional{1, lowered(it.Default)}, loweredList(choices), lowered(it.Help)}
		if it.Required {
			params[index].byDefault = optional{}
		}
	}
	summary := about.Summary
	if summary == "" {
		summary = description
	}
	return loweredAnswer(&describedPlugin{
		lowered(name), lowered(version), lowered(summary), loweredOptional(about.Language), loweredList(params),
	})
}

// opened is result<own<resource>, refusal>.
type opened struct {
	isRefused uint32
	handle    uint32
}

type refused struct {
	isRefused uint32
	code      uint32
	param     optional
	at, len   uint32
	reason    list
	help      optional
}

func loweredRefusal(it *Refusal, expression string, given []pair) unsafe.Pointer {
	why := it.whole(expression, given)
	return loweredAnswer(&refused{
		1, uint32(why.Code) - 1, loweredOptional(why.Param), uint32(why.At), uint32(why.Len), lowered(why.Reason),
		loweredOptional(why.Help),
	})
}

// words is result<list<u32>, string>.
type words struct {
	isFailed uint32
	it       list
}

func loweredWords(all []uint32, err error) unsafe.Pointer {
	if err != nil {
		return loweredAnswer(&words{1, lowered(err.Error())})
	}
	return loweredAnswer(&words{0, loweredList(all)})
}

type variant struct {
	kind uint32
	name list
}

type loweredNeeds struct {
	texts, numbers list
	tagCodes       optional
}

func variants(all []need) list {
	out := make([]variant, len(all))
	for index, it := range all {
		out[index] = variant{it.kind, lowered(it.name)}
	}
	return loweredList(out)
}

func needed(all *needs) unsafe.Pointer {
	begin()
	return loweredAnswer(&loweredNeeds{texts: variants(all.texts), numbers: variants(all.numbers)})
}

func batchOf(all *needs, ends unsafe.Pointer, endsLen uint32, text unsafe.Pointer, textLen uint32, numbers unsafe.Pointer,
	numbersLen uint32) *batch {
	return &batch{all, sliced[uint32](ends, endsLen), lifted(text, textLen), sliced[int64](numbers, numbersLen)}
}

// one is what a consumer has compiled or opened; the broker knows it by its number.
type one struct {
	params *Params
	needs  *needs
	queues []Queue
}

var (
	ones []*one
	free []uint32
)

func added(it *one) uint32 {
	if last := len(free) - 1; last >= 0 {
		number := free[last]
		free = free[:last]
		ones[number] = it
		return number
	}
	ones = append(ones, it)
	return uint32(len(ones) - 1)
}

func dropped(number uint32) {
	ones[number] = nil
	free = append(free, number)
}

// open checks what was given, and has the author's own step look at it.
func open(expression string, given []pair, step func(*Params) (any, error), resource func(uint32) uint32) unsafe.Pointer {
	begin()
	about := exported.about()
	params, refusal := checked(about.Params, given)
	if refusal == nil && step != nil {
		var err error
		if params.Compiled, err = attempt(func() (any, error) { return step(params) }); err != nil {
			refusal = refusalOf(err)
		}
	}
	if refusal != nil {
		return loweredRefusal(refusal, expression, given)
	}
	all, err := needsOf(about.Reads)
	must(err)
	return loweredAnswer(&opened{0, resource(added(&one{params: params, needs: all}))})
}

// verdicts are a bit for each message that matches. `bodies` may be nil.
func verdicts(laid *batch, length uint32, params *Params, matches func(*Message, *Params) (bool, error),
	bodies func(int) []byte) unsafe.Pointer {
	bits, err := attempt(func() ([]uint32, error) {
		bits := make([]uint32, (length+31)/32)
		m := &Message{batch: laid}
		for ; m.number < int(length); m.number++ {
			if bodies != nil {
				m.Body = bodies(m.number)
			}
			is, err := matches(m, params)
			if err != nil {
				return nil, err
			}
			if is {
				bits[m.number/32] |= 1 << (m.number % 32)
			}
		}
		return bits, nil
	})
	return loweredWords(bits, err)
}
