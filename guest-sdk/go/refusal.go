package quern

// Code is what kind of fault it is.
type Code uint32

const (
	// ByPlace is a bad parameter or an expression that does not read as one, whichever it speaks of.
	ByPlace Code = iota
	Syntax
	TypeError
	UnknownName
	BadParam
	Unsupported
	TooComplex
)

// Refusal is why an expression or a parameter is not accepted, and where.
type Refusal struct {
	Reason string
	Code   Code
	// Param is the parameter it speaks of; empty = the expression.
	Param string
	// At and Len are which bytes of it; a length of 0 = to its end.
	At, Len int
	Help    string
}

func (it *Refusal) Error() string {
	if it == nil {
		// Nothing was to be said, but an error that holds it is one.
		return "the error is a *Refusal that is nil: where nothing is refused, return nil itself"
	}
	return it.Reason
}

// whole is the refusal with its code, and its length.
func (it Refusal) whole(expression string, given []pair) Refusal {
	about := expression
	if it.Param != "" {
		about = ""
		for _, each := range given {
			if each.name == it.Param {
				about = each.value
			}
		}
	}
	if it.Len == 0 {
		it.Len = max(len(about)-it.At, 0)
	}
	if it.Code == ByPlace {
		it.Code = Syntax
		if it.Param != "" {
			it.Code = BadParam
		}
	}
	return it
}

func refusalOf(err error) *Refusal {
	if it, is := err.(*Refusal); is && it != nil {
		return it
	}
	return &Refusal{Reason: err.Error()}
}
