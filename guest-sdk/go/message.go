package quern

import (
	"fmt"
	"math"
	"strings"
)

const (
	noNumber   = math.MinInt64
	notANumber = math.MinInt64 + 1024
	absent     = 1 << 31
)

// In the order of the contract's variants; a property, read by its name, comes first in both.
var (
	textKinds   = []string{"", "@tag", "@keys", "@topic", "@message_id", "@order_key", "@group", "@zone"}
	numberKinds = []string{"", "@tag_code", "@queue_id", "@queue_offset", "@size", "@born_at", "@stored_at", "@attempts",
		"@sequence", "@random"}
)

// need is one thing that is read, as the contract names it.
type need struct {
	name string
	kind uint32
}

// needs are texts and numbers, counted apart.
type needs struct {
	texts, numbers []need
}

func needsOf(reads []string) (*needs, error) {
	all := &needs{}
	for _, read := range reads {
		name, isNumber := strings.CutSuffix(read, ":int")
		name = strings.TrimSuffix(name, ":text")
		kind := uint32(0)
		if strings.HasPrefix(read, "@") {
			name = read
			kind = kindOf(textKinds, read)
			if kind == 0 {
				kind, isNumber = kindOf(numberKinds, read), true
			}
			if kind == 0 {
				known := strings.Join(append(textKinds[1:], numberKinds[1:]...), " ")
				return nil, fmt.Errorf("a message has no %s; there are %s", read, known)
			}
		}
		if name == "" {
			return nil, fmt.Errorf("a property has a name, which %q in Reads lacks", read)
		}
		if isNumber {
			all.numbers = append(all.numbers, need{name, kind})
		} else {
			all.texts = append(all.texts, need{name, kind})
		}
	}
	return all, nil
}

func kindOf(kinds []string, name string) uint32 {
	for kind, known := range kinds {
		if known == name && kind > 0 {
			return uint32(kind)
		}
	}
	return 0
}

func placeOf(list []need, name string) int {
	for place := range list {
		if list[place].name == name {
			return place
		}
	}
	panic(name + " is read, and is not in Reads, or is there as something else")
}

// batch is as the contract has it: the ends of all texts, row by row, and all numbers.
type batch struct {
	needs   *needs
	ends    []uint32
	text    string
	numbers []int64
}

// Message is what a plugin is asked about.
type Message struct {
	batch  *batch
	number int
	// Body is there in filters that read bodies.
	Body []byte
}

// Text is a text the message has been read for, "region" or "@tag"; false = it has none.
func (m *Message) Text(name string) (string, bool) {
	b := m.batch
	at := m.number*len(b.needs.texts) + placeOf(b.needs.texts, name)
	end, start := b.ends[at], uint32(0)
	if end&absent != 0 {
		return "", false
	}
	if at > 0 {
		start = b.ends[at-1] &^ absent
	}
	return b.text[start:end], true
}

// Integer is a number, "amount" of "amount:int" or "@size"; false = it has none, or what it has is no whole number.
func (m *Message) Integer(name string) (int64, bool) {
	b := m.batch
	value := b.numbers[m.number*len(b.needs.numbers)+placeOf(b.needs.numbers, name)]
	return value, value != noNumber && value != notANumber
}

// HashCode is Java's String.hashCode, which RocketMQ's answers rest on.
func HashCode(text string) int32 {
	hash := int32(0)
	for _, c := range text {
		if c > 0xffff {
			hash = hash*31 + 0xd800 + (c-0x10000)>>10
			c = 0xdc00 + c&0x3ff
		}
		hash = hash*31 + c
	}
	return hash
}
