package quern

import (
	"strconv"
	"strings"
)

// TestParams are checked and completed as they are by a broker; an error is a *Refusal. For tests.
func TestParams(plugin Plugin, set map[string]string) (*Params, error) {
	given := make([]pair, 0, len(set))
	for name, value := range set {
		given = append(given, pair{name, value})
	}
	params, refusal := checked(plugin.about().Params, given)
	if refusal != nil {
		return nil, refusal
	}
	return params, nil
}

// TestMessage is a message that has these, each under the name it is read by. For tests.
func TestMessage(plugin Plugin, has map[string]string) *Message {
	all, err := needsOf(plugin.about().Reads)
	if err != nil {
		panic(err)
	}
	var text strings.Builder
	laid := &batch{needs: all}
	for _, it := range all.texts {
		// An empty text is none.
		text.WriteString(has[it.name])
		end := uint32(text.Len())
		if has[it.name] == "" {
			end |= absent
		}
		laid.ends = append(laid.ends, end)
	}
	for _, it := range all.numbers {
		number := int64(noNumber)
		if has[it.name] != "" {
			var err error
			if number, err = strconv.ParseInt(has[it.name], 10, 64); err != nil {
				number = notANumber
			}
		}
		laid.numbers = append(laid.numbers, number)
	}
	laid.text = text.String()
	return &Message{batch: laid}
}
