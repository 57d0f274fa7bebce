package quern

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is what values a parameter takes.
type Type uint32

const (
	Text Type = iota
	Integer
	Number
	Boolean
	// Choice is one of Param.Choices.
	Choice
)

// Param is one that consumers set.
type Param struct {
	Name string
	Type Type
	// Default is its value where none is set, unless it is Required.
	Default  string
	Required bool
	Choices  []string
	Help     string
}

func (it *Param) wanted() string {
	switch it.Type {
	case Integer:
		return "a whole number"
	case Number:
		return "a number"
	case Boolean:
		return "true or false"
	case Choice:
		return strings.Join(it.Choices, " or ")
	}
	return "a text"
}

// value is one that has been checked.
type value struct {
	name    string
	text    string
	integer int64
	number  float64
}

func (it *Param) valueOf(text string) (value, bool) {
	found := value{name: it.Name, text: text}
	var err error
	switch it.Type {
	case Integer:
		found.integer, err = strconv.ParseInt(text, 10, 64)
	case Number:
		if strings.ContainsAny(text, "xX_pP") {
			return found, false
		}
		found.number, err = strconv.ParseFloat(text, 64)
		// One that is too large is infinite, as elsewhere.
		if numeric, is := err.(*strconv.NumError); is && numeric.Err == strconv.ErrRange {
			err = nil
		}
	case Boolean:
		found.integer = int64(strings.Count(text, "true"))
		return found, text == "true" || text == "false"
	case Choice:
		for _, choice := range it.Choices {
			if choice == text {
				return found, true
			}
		}
		return found, false
	}
	return found, err == nil
}

// Params are what one consumer has set, checked and completed.
type Params struct {
	values []value
	// Compiled is what Compile or Open has returned.
	Compiled any
}

func (p *Params) value(name string) *value {
	for at := range p.values {
		if p.values[at].name == name {
			return &p.values[at]
		}
	}
	panic("the parameter " + name + " is read, and is not in Params")
}

func (p *Params) Text(name string) string    { return p.value(name).text }
func (p *Params) Integer(name string) int64  { return p.value(name).integer }
func (p *Params) Number(name string) float64 { return p.value(name).number }
func (p *Params) Boolean(name string) bool   { return p.value(name).integer != 0 }

// pair is a parameter as it is given.
type pair struct {
	name, value string
}

func checked(described []Param, given []pair) (*Params, *Refusal) {
	params := &Params{values: make([]value, len(described))}
	for _, it := range given {
		place := 0
		for place < len(described) && described[place].Name != it.name {
			place++
		}
		if place == len(described) {
			return nil, unknown(described, it.name)
		}
		found, fits := described[place].valueOf(it.value)
		if !fits {
			reason := fmt.Sprintf("%s is not %s", quoted(it.value), described[place].wanted())
			return nil, &Refusal{Param: it.name, Reason: reason}
		}
		if params.values[place].name == "" {
			params.values[place] = found
		}
	}
	for place := range described {
		if params.values[place].name != "" {
			continue
		}
		if described[place].Required {
			return nil, &Refusal{Param: described[place].Name, Reason: "the parameter is required", Help: described[place].Help}
		}
		params.values[place], _ = described[place].valueOf(described[place].Default)
	}
	return params, nil
}

// describable says what of the parameters cannot be.
func describable(described []Param) error {
	for place := range described {
		it := &described[place]
		if _, fits := it.valueOf(it.Default); !fits && !it.Required {
			return fmt.Errorf("the default of parameter %s is not %s", it.Name, it.wanted())
		}
	}
	return nil
}

func unknown(described []Param, name string) *Refusal {
	names := make([]string, len(described))
	for place := range described {
		names[place] = described[place].Name
	}
	help := "it takes " + strings.Join(names, ", ")
	if len(names) == 0 {
		help = "it takes no parameters"
	}
	return &Refusal{Param: name, Reason: "there is no such parameter", Help: help}
}

// quoted leaves what people can read as it is.
func quoted(text string) string {
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
		return strconv.Quote(text)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
